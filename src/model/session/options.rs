//! How a session computes: threads, optimisation, execution providers.
//!
//! The same names stand in `model.toml`, in the API and in refusals.

use ort::ep::{self, ExecutionProvider, ExecutionProviderDispatch};
use ort::session::builder::GraphOptimizationLevel;
use serde::{Deserialize, Serialize};

use super::{LoadError, runtime};

/// How far the graph is rewritten before it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Optimization {
    /// Not at all.
    None,
    /// What changes nothing but the graph.
    Basic,
    /// Fused operators too.
    Extended,
    /// Another layout in memory too.
    #[default]
    All,
}

impl Optimization {
    /// All of them, in their order.
    pub const EVERY: [Self; 4] = [Self::None, Self::Basic, Self::Extended, Self::All];

    pub(super) fn level(self) -> GraphOptimizationLevel {
        match self {
            Self::None => GraphOptimizationLevel::Disable,
            Self::Basic => GraphOptimizationLevel::Level1,
            Self::Extended => GraphOptimizationLevel::Level2,
            Self::All => GraphOptimizationLevel::All,
        }
    }
}

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Provider {
    /// The processor. It takes what no other provider takes, named or not.
    Cpu,
    /// NVIDIA's CUDA.
    Cuda,
    /// NVIDIA's TensorRT.
    Tensorrt,
    /// Intel's OpenVINO.
    Openvino,
}

impl Provider {
    const ALL: [Self; 4] = [Self::Cpu, Self::Cuda, Self::Tensorrt, Self::Openvino];

    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Tensorrt => "tensorrt",
            Self::Openvino => "openvino",
        }
    }

    fn is_there(self) -> bool {
        let asked = match self {
            Self::Cpu => return true,
            Self::Cuda => ep::CUDA::is_available(),
            Self::Tensorrt => ep::TensorRT::is_available(),
            Self::Openvino => ep::OpenVINO::is_available(),
        };
        asked.unwrap_or(false)
    }

    /// What registers it; nothing for the processor, which is always there.
    fn dispatch(self) -> Option<ExecutionProviderDispatch> {
        let provider = match self {
            Self::Cpu => return None,
            Self::Cuda => ep::CUDA::default().build(),
            Self::Tensorrt => ep::TensorRT::default().build(),
            Self::Openvino => ep::OpenVINO::default().build(),
        };
        // Without this the processor would take its place in silence.
        Some(provider.error_on_failure())
    }
}

/// The working memory of a session's runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Memory {
    /// Kept for the next run, with a plan of it: a run with large intermediate results does not fetch them anew.
    #[default]
    Kept,
    /// Taken from the allocator and given back: planning costs a quick model a fifth of its run.
    Fresh,
}

impl Memory {
    /// Both.
    pub const EVERY: [Self; 2] = [Self::Kept, Self::Fresh];

    /// As the API shows it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Fresh => "fresh",
        }
    }
}

/// See the module.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionOptions {
    /// Threads of one run.
    pub threads: usize,
    /// How far the graph is rewritten.
    pub optimization: Optimization,
    /// Who computes, the first that can.
    pub providers: Vec<Provider>,
}

impl Default for SessionOptions {
    fn default() -> Self {
        Self::threads(1)
    }
}

impl SessionOptions {
    /// The usual, on so many threads.
    #[must_use]
    pub fn threads(threads: usize) -> Self {
        Self {
            threads,
            optimization: Optimization::All,
            providers: vec![Provider::Cpu],
        }
    }

    /// True where the thread that runs a session does all of the work.
    #[must_use]
    pub fn is_of_one_thread(&self) -> bool {
        self.threads <= 1 && self.providers.iter().all(|&provider| provider == Provider::Cpu)
    }

    /// Whether the loaded library has the providers.
    ///
    /// # Errors
    /// Which it lacks, and what it has.
    pub fn check(&self) -> Result<(), LoadError> {
        self.dispatches(Memory::Kept).map(drop)
    }

    pub(super) fn dispatches(&self, memory: Memory) -> Result<Vec<ExecutionProviderDispatch>, LoadError> {
        if self.providers.iter().all(|&provider| provider == Provider::Cpu) {
            let plain = || ep::CPU::default().with_arena_allocator(false).build();
            return Ok((memory == Memory::Fresh).then(plain).into_iter().collect());
        }
        let library = runtime::start().map_err(|e| LoadError(e.0))?;
        if let Some(lacking) = self.providers.iter().find(|provider| !provider.is_there()) {
            let have = Provider::ALL.into_iter().filter(|provider| provider.is_there());
            let have: Vec<&str> = have.map(Provider::name).collect();
            return Err(LoadError(format!(
                "the loaded onnx runtime {} ({}) has no provider \"{}\"; it has {}: name one of these in \
                 execution.providers, or set ORT_DYLIB_PATH to a library that has it",
                library.version,
                library.path.display(),
                lacking.name(),
                have.join(", ")
            )));
        }
        Ok(self
            .providers
            .iter()
            .filter_map(|provider| provider.dispatch())
            .collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_provider_that_the_library_lacks_is_refused_by_name_with_what_it_has() {
        let options = SessionOptions {
            providers: vec![Provider::Tensorrt, Provider::Cpu],
            ..SessionOptions::default()
        };
        let why = options.check().unwrap_err().0;
        assert!(why.contains("has no provider \"tensorrt\"; it has cpu"), "{why}");
        assert!(SessionOptions::default().check().is_ok());
    }
}
