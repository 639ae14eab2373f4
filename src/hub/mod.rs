//! Rooms, per-client bounded queues, cursors, replay and gaps.
