//! The text of requests: decoding, cookies, origins, canonical paths. Pure, and the same for the
//! routes and for the poll loop, so that no request is answered differently by the way it came in.
//!
//! Headers are bytes here: the fields of RFC 9110 may hold any, and what somebody else put into one
//! must not hide what is ours. Text that people chose is UTF-8 or refused, never replaced by U+FFFD.

mod cookies;
mod decode;
mod framing;
mod head;
mod origin;
mod target;

pub use cookies::cookie;
pub use decode::{NotUtf8, Pair, component, form_component, pairs};
pub use framing::Framing;
pub use head::Head;
pub use origin::{Sites, Source, origin_of};
pub use target::canonical_path;
