# cmake -DFROM=libyololoss.so -DTO=FOLDER -P into-jar.cmake
# Copies the library itself, rather than the symbolic link FROM, into the folder from which Maven makes the jar.
file(REAL_PATH ${FROM} library)
file(MAKE_DIRECTORY ${TO})
configure_file(${library} ${TO}/libyololoss.so COPYONLY)
