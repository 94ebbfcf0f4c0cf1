//! Values written so that they can be read again, whatever the session's settings.

use pgrx::pg_sys;

/// As long as it lives, dates, intervals and numbers are written in full. Others are what the user has chosen for people:
/// digits that are left out, or abbreviations of time zones that mean something else when they are read.
#[derive(Debug)]
pub(crate) struct Exact {
    /// Where the settings go back to.
    level: i32,
}

impl Exact {
    pub(crate) fn new() -> Self {
        // SAFETY: settings of the process; what is set here is taken back with the level, or else by the end of the
        // transaction.
        unsafe {
            let level = pg_sys::NewGUCNestLevel();
            if pg_sys::DateStyle != pg_sys::USE_ISO_DATES as i32 {
                set(c"datestyle", c"ISO");
            }
            if pg_sys::IntervalStyle != pg_sys::INTSTYLE_POSTGRES as i32 {
                set(c"intervalstyle", c"postgres");
            }
            if pg_sys::extra_float_digits < 1 {
                set(c"extra_float_digits", c"1");
            }
            Self { level }
        }
    }

    /// The same, and names are written with their schemas: somebody else is to find them.
    pub(crate) fn for_others() -> Self {
        let exact = Self::new();
        set(c"search_path", c"pg_catalog, pg_temp");
        exact
    }

    /// As [`Self::new`], and queries read a table in the order of an index, from where they are told to begin, whatever the
    /// planner thinks of it.
    pub(crate) fn in_order() -> Self {
        let exact = Self::new();
        for (name, value) in [
            (c"enable_seqscan", c"off"),
            (c"enable_bitmapscan", c"off"),
            (c"enable_sort", c"off"),
            (c"max_parallel_workers_per_gather", c"0"),
            // A sort that cannot be avoided costs so much on paper now that it would be compiled: 100 ms.
            (c"jit", c"off"),
        ] {
            set(name, value);
        }
        exact
    }
}

/// Sets what every user may, until the current level ends.
pub(super) fn set(name: &std::ffi::CStr, value: &std::ffi::CStr) {
    // SAFETY: a setting that every user may change, to a value that it can have.
    unsafe {
        pg_sys::set_config_option(
            name.as_ptr(),
            value.as_ptr(),
            pg_sys::GucContext::PGC_USERSET,
            pg_sys::GucSource::PGC_S_SESSION,
            pg_sys::GucAction::GUC_ACTION_SAVE,
            true,
            0,
            false,
        );
    }
}

impl Drop for Exact {
    fn drop(&mut self) {
        // After an error the end of the transaction takes the settings back.
        if !std::thread::panicking() {
            // SAFETY: the level was begun by this value; those within it have ended.
            unsafe { pg_sys::AtEOXact_GUC(true, self.level) };
        }
    }
}
