//! Parsing of requests: decoding, cookies, origins, canonical paths. Pure, and shared by the routes
//! and the poll loop, so that both treat a request the same.
//!
//! Headers are bytes here: the fields of RFC 9110 may contain any, and foreign values must not hide
//! this server's own. Text from users is UTF-8 or refused, never replaced by U+FFFD.

mod body_frame;
mod cookies;
mod decode;
mod fault;
mod head;
mod origin;
mod request_head;
mod target;

pub use body_frame::{BodyFrame, Garbled};
pub use cookies::cookie;
pub use decode::{NotUtf8, Pair, component, form_component, pairs};
pub use fault::Fault;
pub use head::Head;
pub use origin::{Sites, Source, origin_of};
pub use request_head::{Behind, FAULT_HEADER, HEAD_BYTES, RequestHead, stand_in};
pub use target::canonical_path;
