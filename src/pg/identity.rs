//! Whose privileges count.

use pgrx::pg_sys;

use super::exact::set;
use super::lookup::current_user;

/// As long as it lives, a table's owner is the current user and can do nothing beyond the table: nothing outlasts this,
/// no other role can be set, and names are found in the system's own schema. As for REFRESH MATERIALIZED VIEW and
/// the like: what runs is the owner's, and whoever maintains his table lends him nothing.
#[derive(Debug)]
pub(crate) struct Restricted {
    before: (pg_sys::Oid, i32),
    level: i32,
}

impl Restricted {
    pub(crate) fn owner(owner: pg_sys::Oid) -> Self {
        const MORE: u32 = pg_sys::SECURITY_RESTRICTED_OPERATION
            | pg_sys::SECURITY_LOCAL_USERID_CHANGE
            | pg_sys::SECURITY_NOFORCE_RLS;
        let mut before = (pg_sys::InvalidOid, 0);
        // SAFETY: variables of the process; what is set here is taken back with this value, or else by the end of the
        // transaction.
        let level = unsafe {
            pg_sys::GetUserIdAndSecContext(&mut before.0, &mut before.1);
            pg_sys::SetUserIdAndSecContext(owner, before.1 | MORE as i32);
            pg_sys::NewGUCNestLevel()
        };
        set(c"search_path", c"pg_catalog, pg_temp");
        Self { before, level }
    }

    /// The same, unless the owner himself is the current user: then all is as in his other statements.
    pub(crate) fn unless_owner(owner: pg_sys::Oid) -> Option<Self> {
        (current_user() != owner).then(|| Self::owner(owner))
    }
}

impl Drop for Restricted {
    fn drop(&mut self) {
        // After an error the end of the transaction takes it back.
        if !std::thread::panicking() {
            // SAFETY: the level was begun by this value; those within it have ended.
            unsafe {
                pg_sys::AtEOXact_GUC(false, self.level);
                pg_sys::SetUserIdAndSecContext(self.before.0, self.before.1);
            }
        }
    }
}
