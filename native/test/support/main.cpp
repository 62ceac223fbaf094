// The main of the test programs. The programs of bench have their own, so that the linker leaves this file out of them.
#include "test.h"

int main(int count, char **arguments) { return test::main(count, arguments); }
