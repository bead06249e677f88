## Where the package has its raw module, which compiles the C library. Here it is never to be compiled.
{.error: "the raw module of the package is used, not the replacement".}
