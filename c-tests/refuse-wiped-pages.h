// The kernel wipes no pages at a fork, as before Linux 4.14: in place of the C library's function, which programs find after this.

#ifndef PLUM_TEST_REFUSE_WIPED_PAGES_H
#define PLUM_TEST_REFUSE_WIPED_PAGES_H

#include "check.h"

#include <errno.h>

static int wiped_pages_refused;

int madvise(void *start, size_t length, int advice);

int madvise(void *start, size_t length, int advice) {
	(void)start;
	(void)length;
	CHECK_INT(advice, 18); // MADV_WIPEONFORK: nothing else of this kind is asked for
	++wiped_pages_refused;
	errno = EINVAL;
	return -1;
}

#endif
