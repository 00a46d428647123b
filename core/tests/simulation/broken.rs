//! A promise that a run has broken, and where: a run's panic, caught instead of printed.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

/// What a run's panic says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Broken {
    /// The line that has noticed it. Two runs break the same promise when this is the same; the
    /// message has numbers of the run in it.
    pub(crate) place: String,
    pub(crate) message: String,
}

thread_local! {
    static IS_CATCHING: Cell<bool> = const { Cell::new(false) };
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs it; a panic is not printed.
pub(crate) fn caught<T>(run: impl FnOnce() -> T) -> Result<T, Broken> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_CATCHING.get() {
                return before(info);
            }
            let place = info.location().map(|at| format!("{}:{}", at.file(), at.line()));
            PLACE.set(place.unwrap_or_default());
        }));
    });
    IS_CATCHING.set(true);
    let result = panic::catch_unwind(AssertUnwindSafe(run));
    IS_CATCHING.set(false);
    result.map_err(|panic| Broken { place: PLACE.take(), message: message(&*panic) })
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text").to_string()
}

#[test]
fn a_panic_is_caught_with_its_place() {
    let broken = caught(|| assert_eq!(1 + 1, 3, "INVARIANT: {}", "sums are right")).unwrap_err();
    assert!(broken.place.contains("broken.rs:"), "{broken:?}");
    assert!(broken.message.contains("INVARIANT: sums are right"), "{broken:?}");
    assert_eq!(caught(|| 7), Ok(7));
}
