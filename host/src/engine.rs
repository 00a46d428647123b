//! The engine that runs components, and the components that it has compiled.
//!
//! Both are made once a process: compiling takes most of a second. What is compiled also goes into
//! a directory of the user's, so that the next process only reads it.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::Thread;
use std::time::SystemTime;

use wasmtime::component::{Component, Linker};
use wasmtime::{Cache, CacheConfig, Config, Engine, OptLevel};

use crate::Error;
use crate::bindings::RedisPre;
use crate::state::State;
use crate::{wasi, watchdog};

/// After how many ticks without a call the ticker goes to sleep.
const IDLE_TICKS_MAX: u32 = 100;

/// Names a component to load in place of the embedded one.
const COMPONENT_VARIABLE: &str = "KEYSLOT_COMPONENT";

/// The component that build.rs made.
#[cfg(keyslot_embedded)]
const EMBEDDED: Option<&[u8]> = Some(include_bytes!(env!("KEYSLOT_COMPONENT_FILE")));
#[cfg(not(keyslot_embedded))]
const EMBEDDED: Option<&[u8]> = None;

/// The engine with its ticker, one for the process.
pub(crate) struct Runtime {
    engine: Engine,
    ticker: Ticker,
    /// What is compiled already. Held while compiling, so that nothing is compiled twice.
    components: Mutex<HashMap<Source, RedisPre<State>>>,
}

/// What a compiled component was made from. A file that has changed is another source.
#[derive(Clone, PartialEq, Eq, Hash)]
enum Source {
    Embedded,
    File { path: PathBuf, length: u64, modified: Option<SystemTime> },
}

impl Runtime {
    /// The process's engine.
    pub(crate) fn get() -> Result<&'static Self, Error> {
        static RUNTIME: OnceLock<Result<Runtime, Error>> = OnceLock::new();
        let runtime = RUNTIME.get_or_init(|| {
            Self::new().map_err(|error| Error::Host(format!("the engine cannot start: {error:#}")))
        });
        runtime.as_ref().map_err(Clone::clone)
    }

    fn new() -> wasmtime::Result<Self> {
        let mut config = Config::new();
        config
            .cranelift_opt_level(OptLevel::Speed)
            .epoch_interruption(true)
            // The package has no `async func`, and without support for them a call costs 0.8 µs
            // instead of 2.1 µs.
            .concurrency_support(false)
            .cache(open_cache());
        let engine = Engine::new(&config)?;
        Ok(Self { ticker: Ticker::start(engine.clone())?, engine, components: Mutex::default() })
    }

    /// The compiled component: the file, else that of `KEYSLOT_COMPONENT`, else the embedded one.
    ///
    /// Reads and compiles on a thread that may block.
    pub(crate) async fn component(&'static self, file: Option<PathBuf>) -> Result<RedisPre<State>, Error> {
        let load = move || {
            let variable = || std::env::var_os(COMPONENT_VARIABLE).filter(|name| !name.is_empty());
            match file.or_else(|| variable().map(PathBuf::from)) {
                Some(path) => self.of_file(&path),
                None => self.of_this_build(),
            }
        };
        tokio::task::spawn_blocking(load)
            .await
            .unwrap_or_else(|error| Err(Error::Host(format!("loading the component: {error}"))))
    }

    #[cfg(test)]
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Lets the component that is called meanwhile give way to other tasks, until the guard is
    /// dropped.
    pub(crate) fn ticking(&self) -> Ticking<'_> {
        self.ticker.calls.fetch_add(1, Ordering::SeqCst);
        if self.ticker.asleep.load(Ordering::SeqCst) {
            self.ticker.thread.unpark();
        }
        Ticking(&self.ticker)
    }

    fn of_file(&self, path: &Path) -> Result<RedisPre<State>, Error> {
        let read_error = |error| Error::Host(format!("component {}: {error}", path.display()));
        let metadata = std::fs::metadata(path).map_err(read_error)?;
        let source = Source::File {
            path: path.to_owned(),
            length: metadata.len(),
            modified: metadata.modified().ok(),
        };
        let read = || std::fs::read(path).map_err(read_error);
        self.compiled(source, &path.display().to_string(), read)
    }

    fn of_this_build(&self) -> Result<RedisPre<State>, Error> {
        let bytes = EMBEDDED.ok_or_else(|| {
            Error::Host(format!(
                "this build embeds no component (feature `bundled`): \
                 let {COMPONENT_VARIABLE} name a file"
            ))
        })?;
        self.compiled(Source::Embedded, "the embedded one", || Ok(bytes))
    }

    fn compiled<B: AsRef<[u8]>>(
        &self,
        source: Source,
        name: &str,
        read: impl FnOnce() -> Result<B, Error>,
    ) -> Result<RedisPre<State>, Error> {
        let mut components = self.components.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(component) = components.get(&source) {
            return Ok(component.clone());
        }
        let compiled = self
            .compile(read()?.as_ref())
            .map_err(|error| Error::Host(format!("component {name}: {error:#}")))?;
        components.insert(source, compiled.clone());
        Ok(compiled)
    }

    fn compile(&self, bytes: &[u8]) -> wasmtime::Result<RedisPre<State>> {
        let component = Component::from_binary(&self.engine, bytes)?;
        let mut linker = Linker::new(&self.engine);
        wasi::add_to_linker(&mut linker)?;
        RedisPre::new(linker.instantiate_pre(&component)?)
    }
}

/// The directory for compiled code; none when it cannot be used, which costs time but no function.
fn open_cache() -> Option<Cache> {
    let directories = directories::ProjectDirs::from("", "", "keyslot")?;
    let mut config = CacheConfig::new();
    config.with_directory(directories.cache_dir().join("compiled"));
    match Cache::new(config) {
        Ok(cache) => Some(cache),
        Err(error) => {
            tracing::debug!("compiled code is not kept: {error:#}");
            None
        }
    }
}

/// The thread that advances the engine's epoch, at which a computing component gives way.
///
/// It sleeps when no call has been under way for a second, so that an idle process stays idle.
struct Ticker {
    thread: Thread,
    /// How many calls are under way.
    calls: Arc<AtomicUsize>,
    /// Whether the thread is parked or about to be. Set before the thread looks at `calls` for the
    /// last time, read after a call has counted itself: one of the two sees the other.
    asleep: Arc<AtomicBool>,
}

impl Ticker {
    fn start(engine: Engine) -> wasmtime::Result<Self> {
        let calls = Arc::new(AtomicUsize::new(0));
        let asleep = Arc::new(AtomicBool::new(false));
        let (thread_calls, thread_asleep) = (Arc::clone(&calls), Arc::clone(&asleep));
        let handle = std::thread::Builder::new()
            .name("keyslot-ticker".to_owned())
            .spawn(move || tick(&engine, &thread_calls, &thread_asleep))?;
        Ok(Self { thread: handle.thread().clone(), calls, asleep })
    }
}

/// The ticker's thread: as long as the process.
fn tick(engine: &Engine, calls: &AtomicUsize, asleep: &AtomicBool) {
    let mut idle_ticks = 0;
    loop {
        std::thread::sleep(watchdog::TICK);
        engine.increment_epoch();
        if calls.load(Ordering::SeqCst) > 0 {
            idle_ticks = 0;
            continue;
        }
        idle_ticks += 1;
        if idle_ticks < IDLE_TICKS_MAX {
            continue;
        }
        idle_ticks = 0;
        asleep.store(true, Ordering::SeqCst);
        while calls.load(Ordering::SeqCst) == 0 {
            std::thread::park();
        }
        asleep.store(false, Ordering::SeqCst);
    }
}

/// A call is under way.
pub(crate) struct Ticking<'a>(&'a Ticker);

impl Drop for Ticking<'_> {
    fn drop(&mut self) {
        self.0.calls.fetch_sub(1, Ordering::SeqCst);
    }
}
