int wrapper_has_address(void);

int main(void) {
	return wrapper_has_address() ? 0 : 1;
}
