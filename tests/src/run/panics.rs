//! A panic is a finding like any other: it is caught, and not printed.

use std::{
    cell::{Cell, RefCell},
    panic::{catch_unwind, set_hook, take_hook, AssertUnwindSafe},
    sync::Once,
};

thread_local! {
    static CATCHES: Cell<bool> = const { Cell::new(false) };
    static CAUGHT: RefCell<String> = const { RefCell::new(String::new()) };
}

static HOOK: Once = Once::new();

/// Calls `f`; a panic becomes a text with its message and place.
///
/// # Errors
/// The panic.
pub(crate) fn caught<R>(f: impl FnOnce() -> R) -> Result<R, String> {
    HOOK.call_once(|| {
        let hook = take_hook();
        set_hook(Box::new(move |info| {
            if CATCHES.get() {
                CAUGHT.with_borrow_mut(|text| *text = info.to_string());
            } else {
                hook(info);
            }
        }));
    });
    let before = CATCHES.replace(true);
    let result = catch_unwind(AssertUnwindSafe(f));
    CATCHES.set(before);
    result.map_err(|_| CAUGHT.with_borrow(String::clone))
}
