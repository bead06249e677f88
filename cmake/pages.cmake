# Has the plum command write its manual pages and its completions for bash, zsh and fish, each under the name it is found by.
#
#   cmake -DPLUM=plum -DFOLDER=folder -P pages.cmake

cmake_minimum_required(VERSION 3.16)

if(NOT PLUM OR NOT FOLDER)
  message(FATAL_ERROR "pages.cmake needs -DPLUM=... and -DFOLDER=...")
endif()
if(EXISTS "${FOLDER}/plum.fish" AND NOT "${PLUM}" IS_NEWER_THAN "${FOLDER}/plum.fish")
  return()
endif()

include("${CMAKE_CURRENT_LIST_DIR}/run.cmake")

file(REMOVE_RECURSE "${FOLDER}")
file(MAKE_DIRECTORY "${FOLDER}/man1")
run("${PLUM}" man "${FOLDER}/man1")
run("${PLUM}" completions bash OUTPUT_FILE "${FOLDER}/plum")
run("${PLUM}" completions zsh OUTPUT_FILE "${FOLDER}/_plum")
# The last: it tells that all are there.
run("${PLUM}" completions fish OUTPUT_FILE "${FOLDER}/plum.fish")
