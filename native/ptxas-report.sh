#!/bin/sh
# ptxas-report.sh COMPILER ARGUMENTS...: the kernels' CUDA_COMPILER_LAUNCHER. Runs the compiler, stores its messages in
# OBJECT.report, next to the object, and prints those that are not part of the report about kernels (-Xptxas=-v).
# native/test/kernels.cmake reads the report. cuobjdump reads the same numbers from a finished library, but many
# installations of the CUDA compiler lack it.
for word; do
  [ "$before" != -o ] || object=$word
  before=$word
done
"$@" 2>"$object.report"
status=$?
grep -v -e '^ptxas info' -e '^ *[0-9]* bytes stack frame' "$object.report" >&2
exit $status
