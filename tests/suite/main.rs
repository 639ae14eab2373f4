//! Stories that a user lives through, told to the real binary with real parts: a private sshd, a
//! `git daemon`, headless Chromium. `tests/run` installs what they need.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod architecture;
mod assets;
mod browser_crud;
mod browser_push;
mod browser_release;
mod browser_tabs;
mod course_chat;
mod delivery;
mod demo;
mod drain;
mod fixture;
mod kill;
mod limits;
mod limits_greedy;
mod metrics;
mod old_engine;
mod poll;
mod poll_course;
mod poll_refused;
mod presence;
mod proxies;
mod release;
mod release_end;
mod release_faults;
mod release_git;
mod release_git_ssh;
mod release_hooks;
mod release_keep;
mod vote;
