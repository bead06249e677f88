const char *gateway_external_address(void); const char *gateway_forward_address(void); void gateway_control(const char*); int gateway_mappings(void);
