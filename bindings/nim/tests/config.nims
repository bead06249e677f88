# What a project does that has the package `libplum` (here: wrapper/) and wants this library behind it.
switch("threads", "on")
switch("path", thisDir() & "/wrapper")
patchFile("libplum", "libplum", thisDir() & "/../libplum")
