#!/bin/sh
# report.sh COMPILER ...: runs the CUDA compiler and keeps what it reports of the kernels (-Xptxas=-v) beside the object, for
# the test `kernels`; says the rest.
for word; do
  [ "$before" != -o ] || object=$word
  before=$word
done
"$@" 2>"$object.report"
status=$?
grep -v -e '^ptxas info' -e '^ *[0-9]* bytes stack frame' "$object.report" >&2
exit $status
