#include <plum/plum.h>

int wrapper_has_address(void);

int wrapper_has_address(void) {
	char address[PLUM_MAX_ADDRESS_LEN];
	return plum_get_local_address(address, sizeof(address)) != PLUM_ERR_INVALID;
}
