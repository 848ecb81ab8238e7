//! Tests deployable apps on a shared, live host without leaving a trace.
//!
//! The crate holds what every way of using cc-ci shares: the words of the field ([`names`]), the four traits
//! that keep its two promises ([`lock::AppLock`], [`lifetime::RunLifetime`], [`workspace::AbraWorkspace`],
//! [`janitor::Janitor`]) with their kernel-backed implementations, the [`executor`] traits with the embedded
//! `local` executor, and the [`run`] pipeline. It knows neither Docker nor abra.

pub mod cancellation;
pub mod event;
pub mod exit;
pub mod host;
pub mod lifetime;
pub mod lock;
pub mod names;
pub mod process;
pub mod recipe;
