# cmake -DBUILD=FOLDER -DTO=FOLDER -P into-jar.cmake
# Copies the library that was built in BUILD, rather than the symbolic link to it, into the folder from which Maven
# makes the jar: TO/PLATFORM. BUILD/platform names the platform. A library of an earlier build for another platform is
# removed.
file(READ ${BUILD}/platform platform)
file(REAL_PATH ${BUILD}/libyololoss.so library)
file(GLOB folders ${TO}/*)
foreach(folder IN LISTS folders)
  if(NOT folder STREQUAL "${TO}/${platform}")
    file(REMOVE_RECURSE ${folder})
  endif()
endforeach()
file(MAKE_DIRECTORY ${TO}/${platform})
configure_file(${library} ${TO}/${platform}/libyololoss.so COPYONLY)
