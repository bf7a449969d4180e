//! Credentials in the configuration, and the networks that the program finds itself in.
