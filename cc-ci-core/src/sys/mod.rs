//! What the kernel is asked for, and what people are shown, in one way each.

pub mod beneath;
pub mod blocking;
pub(crate) mod cgroups;
pub(crate) mod connections;
pub mod files;
pub mod output;
pub mod process;
pub mod programs;
pub mod shared_look;
pub mod spelling;
pub mod system_info;
pub mod text;

/// Returns when `limit` from `now` on is over. What no clock can count is a time that nobody sees: callers may say "for
/// ever".
pub(crate) fn after(now: std::time::Instant, limit: std::time::Duration) -> std::time::Instant {
    const FAR: std::time::Duration = std::time::Duration::from_hours(24 * 366 * 30);
    now.checked_add(limit).unwrap_or(now + FAR)
}
