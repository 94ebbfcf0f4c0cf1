//! Users, and what authenticates them to a store.

use pgrx::pg_sys;
use pgrx::prelude::*;

use super::options::Options;
use crate::pg::nodes::items;

/// Options of a user's mapping to a server, or of the one for all; none if there is neither.
///
/// # Safety
///
/// The server must exist.
pub(super) unsafe fn mapping(server: pg_sys::Oid, user: pg_sys::Oid) -> Options {
    // SAFETY: the cache has a row for a user and a server. The mapping lives as long as the memory of the call.
    unsafe {
        let exists = |user: pg_sys::Oid| {
            pg_sys::SearchSysCacheExists(
                pg_sys::SysCacheIdentifier::USERMAPPINGUSERSERVER as i32,
                user.into_datum().unwrap_or(pg_sys::Datum::null()),
                server.into_datum().unwrap_or(pg_sys::Datum::null()),
                pg_sys::Datum::null(),
                pg_sys::Datum::null(),
            )
        };
        if exists(user) || exists(pg_sys::InvalidOid) {
            return Options::from_list((*pg_sys::GetUserMapping(user, server)).options);
        }
    }
    Options::default()
}

/// Who reads a table of a plan: the one whose privileges count, such as a view's owner.
///
/// # Safety
///
/// `relation` must be one of the planner's.
pub(super) unsafe fn of_relation(relation: *mut pg_sys::RelOptInfo) -> pg_sys::Oid {
    // SAFETY: the caller's promise.
    unsafe { or_current((*relation).userid) }
}

/// The same, of a scan.
///
/// # Safety
///
/// `node` must be a scan of one table.
pub(super) unsafe fn of_scan(node: *mut pg_sys::ForeignScanState) -> pg_sys::Oid {
    // SAFETY: the caller's promise; a scan's table is one of the query's.
    unsafe {
        let plan = (*node).ss.ps.plan.cast::<pg_sys::ForeignScan>();
        #[cfg(not(any(feature = "pg14", feature = "pg15")))]
        let user = (*plan).checkAsUser;
        #[cfg(any(feature = "pg14", feature = "pg15"))]
        let user = {
            let tables = items::<pg_sys::RangeTblEntry>((*(*node).ss.ps.state).es_range_table);
            (*tables[(*plan).scan.scanrelid as usize - 1]).checkAsUser
        };
        or_current(user)
    }
}

fn or_current(user: pg_sys::Oid) -> pg_sys::Oid {
    // SAFETY: reads a variable of the process.
    if user == pg_sys::InvalidOid { unsafe { pg_sys::GetUserId() } } else { user }
}
