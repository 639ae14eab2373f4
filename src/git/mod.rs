//! The git wrapper: mirrors, fetch, refs, commits, checkout, archive.
