/* Programs include <plum/plum.h>, or "plum.h" with this folder on the include path: both are the one header. */
#include "../plum.h"
