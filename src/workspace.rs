//! The task's repository on disk: a cached mirror, a temporary working tree without git's data, snapshots of it.
