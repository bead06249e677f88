/* What gcc's unwinder asks of glibc and musl does not have: so it can stand in, in a static program for musl, for the
 * unwinder that Rust's own builds for musl bring along and Debian's does not. */

#define _GNU_SOURCE
#include <link.h>
#include <pthread.h>
#include <stddef.h>
#include <stdint.h>

/* It names these weakly, which takes nothing out of an archive: here they are wanted. */
void *const plum_wanted[] = {
	(void *)pthread_once, (void *)pthread_key_create, (void *)pthread_getspecific, (void *)pthread_setspecific,
	(void *)pthread_mutex_lock, (void *)pthread_mutex_unlock,
};

/* dlfcn.h of glibc 2.35. */
struct dl_find_object {
	unsigned long long flags;
	void *map_start;
	void *map_end;
	void *link_map;
	void *eh_frame;
	unsigned long long reserved[7];
};

struct search {
	uintptr_t address;
	struct dl_find_object *found;
};

static int look(struct dl_phdr_info *info, size_t size, void *data) {
	struct search *search = data;
	uintptr_t start = UINTPTR_MAX, end = 0;
	void *eh_frame = NULL;
	int inside = 0;
	(void)size;
	for (int i = 0; i < info->dlpi_phnum; ++i) {
		const ElfW(Phdr) *header = &info->dlpi_phdr[i];
		uintptr_t from = info->dlpi_addr + header->p_vaddr;
		uintptr_t to = from + header->p_memsz;
		if (header->p_type == PT_GNU_EH_FRAME) {
			eh_frame = (void *)from;
		} else if (header->p_type == PT_LOAD) {
			start = from < start ? from : start;
			end = to > end ? to : end;
			inside |= from <= search->address && search->address < to;
		}
	}
	if (!inside || !eh_frame)
		return 0;
	*search->found = (struct dl_find_object){.map_start = (void *)start, .map_end = (void *)end, .eh_frame = eh_frame};
	return 1;
}

/* 0: found. */
int _dl_find_object(void *address, struct dl_find_object *found) {
	struct search search = {(uintptr_t)address, found};
	return dl_iterate_phdr(look, &search) ? 0 : -1;
}
