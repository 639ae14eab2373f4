//! The SSH wrapper: connections, host keys, credentials, exec, transfer.
