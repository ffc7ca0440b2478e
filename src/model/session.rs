//! An ONNX Runtime session: with its own submodules the only place that names `ort`.
//!
//! Always holds: one thread runs a session at a time (`&mut`); what nobody asked for is not computed; inputs are
//! borrowed, not copied (strings aside, which the library keeps in a form of its own); outputs are plain tensors.
//! Leaves to others: finding the library (`runtime`), what the tensors mean (`layout`, `head`), whether a file may be
//! loaded at all (`onnx`, `admission`).

mod booleans;
mod convert;
mod halt;
pub(in crate::model) mod library;
mod mapped;
mod options;
mod shared;
mod words;

pub use halt::halt;
pub use mapped::Mapped;
pub use options::{Memory, Optimization, Provider, SessionOptions};
pub use shared::{Holding, SharedWeights, give_back, holding, is_large};

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::Path;
use std::sync::Arc;

use ort::session::builder::SessionBuilder;
use ort::session::{HasSelectedOutputs, OutputSelector, RunOptions, SessionInputValue};
use ort::value::ValueType;

use super::runtime;
use super::signature::{Signature, TensorSpec};
use super::tensor::Tensor;
use words::readable;

/// Selections of outputs that a session keeps ready. Callers use one or two; beyond this the oldest goes.
const KEPT_SELECTIONS: usize = 4;

/// Why a file did not load, in words for an engineer.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct LoadError(pub String);

/// Why a run failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{0}")]
pub struct RunError(pub String);

/// One loaded model with one thread's working memory.
pub struct Session {
    inner: ort::session::Session,
    signature: Signature,
    metadata: BTreeMap<String, String>,
    selections: Vec<(Vec<usize>, RunOptions<HasSelectedOutputs>)>,
    /// Weights that the session reads from; after the session, so that they go after it.
    shared: Option<Arc<SharedWeights>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("signature", &self.signature)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Loads the file (external data beside it) with `threads` intra-op threads. Starts ONNX Runtime if needed.
    ///
    /// # Errors
    /// The runtime's own words.
    pub fn load(path: &Path, threads: usize) -> Result<Self, LoadError> {
        Self::load_with(path, &SessionOptions::threads(threads), Memory::Kept, None)
    }

    /// The same, to compute as these options say, with weights that other sessions of the file have too.
    ///
    /// # Errors
    /// The runtime's own words, or a provider that the library lacks.
    pub fn load_with(
        path: &Path,
        options: &SessionOptions,
        memory: Memory,
        shared: Option<&Arc<SharedWeights>>,
    ) -> Result<Self, LoadError> {
        let mut builder = builder(options, memory)?;
        if let Some(shared) = shared {
            builder = shared.hand_to(builder).map_err(|e| refused(&e))?;
        }
        let inner = guarded(|| builder.commit_from_file(path))?;
        let mut session = Self::of(inner)?;
        session.shared = shared.cloned();
        Ok(session)
    }

    /// The same from bytes, whose tensors must all be inside: what was hashed is what is loaded.
    ///
    /// # Errors
    /// The runtime's own words.
    pub fn load_bytes(bytes: &[u8], threads: usize) -> Result<Self, LoadError> {
        let mut builder = builder(&SessionOptions::threads(threads), Memory::Kept)?;
        let inner = guarded(|| builder.commit_from_memory(bytes))?;
        Self::of(inner)
    }

    /// The same with external data, by the names in the model, to compute as these options say: nothing is read from files.
    ///
    /// # Errors
    /// The runtime's own words.
    pub fn load_parts(
        model: &[u8],
        external: &[(CString, &[u8])],
        options: &SessionOptions,
        memory: Memory,
    ) -> Result<Self, LoadError> {
        let mut builder = builder(options, memory)?;
        for (name, bytes) in external {
            mapped::stand_in(&mut builder, name, bytes).map_err(|e| refused(&e))?;
        }
        let inner = guarded(|| builder.commit_from_memory(model))?;
        // It points to the bytes.
        drop(builder);
        Self::of(inner)
    }

    fn of(inner: ort::session::Session) -> Result<Self, LoadError> {
        let signature = signature(&inner)?;
        let metadata = metadata(&inner);
        Ok(Self {
            inner,
            signature,
            metadata,
            selections: Vec::new(),
            shared: None,
        })
    }

    /// Inputs and outputs as the file declares them. Outputs that are not tensors are left out.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// The file's own metadata (custom keys).
    #[must_use]
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    /// Runs on `inputs` (in signature order), computing only `outputs` (numbers into `signature().outputs`), which
    /// come back in the order asked for.
    ///
    /// # Errors
    /// The runtime's own words.
    pub fn run(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        self.run_as(inputs, outputs, false)
    }

    /// The same, for the one thread of a process that runs: [`halt`] ends it.
    ///
    /// # Errors
    /// As above.
    pub fn run_haltable(&mut self, inputs: &[Tensor], outputs: &[usize]) -> Result<Vec<Tensor>, RunError> {
        self.run_as(inputs, outputs, true)
    }

    fn run_as(&mut self, inputs: &[Tensor], outputs: &[usize], haltable: bool) -> Result<Vec<Tensor>, RunError> {
        let expected = self.signature.inputs.len();
        if inputs.len() != expected {
            return Err(RunError(format!(
                "the model takes {expected} inputs, got {}",
                inputs.len()
            )));
        }
        if outputs.is_empty() {
            return Ok(Vec::new());
        }
        let values = inputs
            .iter()
            .zip(&self.signature.inputs)
            .map(|(tensor, spec)| {
                convert::borrowed(tensor).map_err(|why| RunError(format!("input {}: {why}", spec.name)))
            })
            .collect::<Result<Vec<SessionInputValue<'_>>, _>>()?;
        let chosen = select(&mut self.selections, &self.signature, outputs)?;
        let Some((_, options)) = self.selections.get(chosen) else {
            return Err(RunError("the outputs could not be selected".into()));
        };
        let _under_way = haltable.then(|| halt::Haltable::new(options));
        let computed = self
            .inner
            .run_with_options(values.as_slice(), options)
            .map_err(|e| RunError(readable(e.message())))?;
        computed
            .iter()
            .map(|(name, value)| convert::owned(&value).map_err(|why| RunError(format!("output {name}: {why}"))))
            .collect()
    }
}

/// Where the options for these outputs stand, made on first use.
fn select(
    selections: &mut Vec<(Vec<usize>, RunOptions<HasSelectedOutputs>)>,
    signature: &Signature,
    outputs: &[usize],
) -> Result<usize, RunError> {
    if let Some(known) = selections.iter().position(|(numbers, _)| numbers == outputs) {
        return Ok(known);
    }
    let mut selector = OutputSelector::no_default();
    for &number in outputs {
        let Some(spec) = signature.outputs.get(number) else {
            let count = signature.outputs.len();
            return Err(RunError(format!("there is no output {number}: the model has {count}")));
        };
        selector = selector.with(&spec.name);
    }
    let options = RunOptions::new().map_err(|e| RunError(readable(e.message())))?;
    if selections.len() == KEPT_SELECTIONS {
        selections.remove(0);
    }
    selections.push((outputs.to_vec(), options.with_outputs(selector)));
    Ok(selections.len() - 1)
}

/// One thread by default, no parallel branches: the workers are the parallelism (ONNX Runtime's own pool would spin
/// on the cores that serve requests).
fn builder(options: &SessionOptions, memory: Memory) -> Result<SessionBuilder, LoadError> {
    runtime::start().map_err(|e| LoadError(e.0))?;
    let environment = library::environment().ok_or_else(|| LoadError("onnx runtime has no environment".into()))?;
    let providers = options.dispatches(memory)?;
    let build = || -> Result<SessionBuilder, ort::Error> {
        Ok(ort::session::Session::builder(environment)?
            .with_intra_threads(options.threads.max(1))?
            .with_inter_threads(1)?
            .with_parallel_execution(false)?
            .with_memory_pattern(memory == Memory::Kept)?
            .with_optimization_level(options.optimization.level())?
            .with_execution_providers(providers)?
            .with_log_level(ort::logging::LogLevel::Fatal)?)
    };
    build().map_err(|e| refused(&e))
}

/// The binding panics at types of inputs and outputs that it does not know; a file must not end the process so.
fn guarded(load: impl FnOnce() -> ort::Result<ort::session::Session>) -> Result<ort::session::Session, LoadError> {
    match std::panic::catch_unwind(std::panic::AssertUnwindSafe(load)) {
        Ok(loaded) => loaded.map_err(|e| refused(&e)),
        Err(_) => Err(LoadError(
            "an input or output has a type that is no tensor: export plain tensors".into(),
        )),
    }
}

fn refused(error: &ort::Error) -> LoadError {
    LoadError(readable(error.message()))
}

fn signature(session: &ort::session::Session) -> Result<Signature, LoadError> {
    let mut signature = Signature::default();
    for input in session.inputs() {
        signature.inputs.push(spec(input.name(), input.dtype()).map_err(|kind| {
            LoadError(format!(
                "input {} is {kind}: only plain tensors can be fed",
                input.name()
            ))
        })?);
    }
    let mut others = Vec::new();
    for output in session.outputs() {
        match spec(output.name(), output.dtype()) {
            Ok(spec) => signature.outputs.push(spec),
            Err(kind) => others.push(format!("{} is {kind}", output.name())),
        }
    }
    if signature.outputs.is_empty() {
        let others = others.join(", ");
        return Err(LoadError(format!(
            "no output is a plain tensor ({others}): export plain tensors (scikit-learn: zipmap=False)"
        )));
    }
    Ok(signature)
}

/// Symbolic dimensions lose their names: two exports of one pipeline seldom agree on them.
fn spec(name: &str, kind: &ValueType) -> Result<TensorSpec, String> {
    match kind {
        ValueType::Tensor { ty, shape, .. } => Ok(TensorSpec {
            name: name.to_owned(),
            datatype: convert::datatype(*ty).ok_or_else(|| format!("a tensor of {ty}"))?,
            shape: shape.iter().map(|&d| d.max(-1)).collect(),
        }),
        ValueType::Sequence(_) => Err("a sequence".into()),
        ValueType::Map { .. } => Err("a map".into()),
        ValueType::Optional(_) => Err("an optional".into()),
    }
}

/// Metadata that is not UTF-8 is treated as absent.
fn metadata(session: &ort::session::Session) -> BTreeMap<String, String> {
    let Ok(metadata) = session.metadata() else {
        return BTreeMap::new();
    };
    let keys = metadata.custom_keys().unwrap_or_default();
    keys.into_iter()
        .filter_map(|key| metadata.custom(&key).map(|value| (key, value)))
        .collect()
}

#[cfg(test)]
mod tests;
