//! What ends a run, and what becomes of its children: each test has processes of its own.

mod children;
mod ends;
mod parent;
mod probe;
mod settle;
