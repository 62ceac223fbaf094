# cmake -DFROM=libyololoss.so -DTO=FOLDER -P into-jar.cmake: puts the library, not the link to it, into the jar's folder.
file(REAL_PATH ${FROM} library)
file(MAKE_DIRECTORY ${TO})
configure_file(${library} ${TO}/libyololoss.so COPYONLY)
