//! The bridge as real processes, between a forge and a CI that are stand-ins and behave as real ones were recorded.

#![expect(clippy::expect_used, reason = "this is test code: a panic is a failed test")]

mod browser;
mod ci;
mod delivery;
mod flood;
mod forge;
mod git;
mod hostile;
mod http;
mod killed;
mod lists;
mod pages;
mod place;
mod recorded;
mod way;
mod whole_way;
mod work;
