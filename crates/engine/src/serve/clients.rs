//! Who is connected, and making room for others.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use super::connection::Connection;

/// Descriptors that connections leave for models and the like.
const KEPT_DESCRIPTORS: u64 = 64;
/// At least so many connections are served.
const FEW: u64 = 16;

/// The connections, and how many there may be.
pub(super) struct Clients {
    most: u64,
    connections: Mutex<HashMap<u64, Weak<Connection>>>,
}

impl Clients {
    /// For a process that may have so many descriptors.
    pub(super) fn within(descriptors: Option<u64>) -> Self {
        let most = descriptors.map_or(u64::MAX, |limit| limit.saturating_sub(KEPT_DESCRIPTORS).max(FEW));
        Self { most, connections: Mutex::default() }
    }

    pub(super) fn add(&self, id: u64, connection: &Arc<Connection>) {
        self.lock().insert(id, Arc::downgrade(connection));
    }

    pub(super) fn remove(&self, id: u64) {
        self.lock().remove(&id);
    }

    /// Whether one more can be served.
    pub(super) fn have_room(&self, connections: u64) -> bool {
        connections < self.most
    }

    /// Gives up the connection of the client that has been silent for the longest time, unless all wait for answers.
    pub(super) fn make_room(&self) {
        let connections = self.lock();
        let idle = connections.values().filter_map(Weak::upgrade);
        let idle = idle.filter_map(|connection| Some((connection.idle_since()?, connection)));
        if let Some((_, connection)) = idle.min_by_key(|(since, _)| *since) {
            connection.give_up();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Weak<Connection>>> {
        self.connections.lock().expect("no thread panics while it holds the clients")
    }
}
