/* A library of another ABI version, for the loader's test. */
int yl_abi_version(void);
__attribute__((visibility("default"))) int yl_abi_version(void) { return 999; }
