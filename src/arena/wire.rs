//! What gateway and runner say to each other, as bytes.
//!
//! Always holds: decoding never panics and never allocates more than a small multiple of the bytes at hand, whatever
//! they are; what decodes is whole, with nothing left over. A runner's bytes are written by somebody else's model
//! for all we know.
//! Leaves to others: framing (`channel`), and whether an answer belongs to the question (`client`).
//!
//! Little-endian. A message is a tag and its fields; text and lists carry a 4-byte length; a tensor is its datatype, its
//! rank, its dimensions (8 bytes each), its elements.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use self::bytes::{Cursor, put_len, put_tensors};
use super::confine::Confinement;
use super::parcel::Slip;
use crate::model::session::{Memory, Optimization};
use crate::model::signature::Signature;
use crate::model::tensor::Tensor;

mod bytes;

/// Why bytes are not a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {0}")]
pub struct WireError(pub(super) &'static str);

/// From the gateway to the runner.
#[derive(Debug, Clone, PartialEq)]
pub enum Request {
    /// Are you there?
    Ping,
    /// From now on small messages go through the memory behind the descriptor that comes with this.
    Mailbox,
    /// Load what lies in the descriptor that comes with this.
    Load {
        /// Where; the model comes first.
        slips: Vec<Slip>,
        /// Intra-op threads.
        threads: u32,
        /// How far the graph is rewritten.
        optimization: Optimization,
        /// What becomes of the working memory of a run.
        memory: Memory,
    },
    /// Run the loaded model.
    Run {
        /// Comes back with the answer.
        seq: u64,
        /// Numbers into the signature's outputs.
        outputs: Vec<u32>,
        /// In signature order.
        inputs: Vec<Tensor>,
    },
}

/// What a loaded file says of itself.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Loaded {
    /// Inputs and outputs.
    pub signature: Signature,
    /// The file's own metadata.
    pub metadata: BTreeMap<String, String>,
}

/// From the runner to the gateway.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply {
    /// To [`Request::Ping`] and [`Request::Mailbox`].
    Pong {
        /// What keeps the runner in.
        confinement: Confinement,
    },
    /// The file is loaded.
    Loaded(Box<Loaded>),
    /// It is not.
    LoadFailed {
        /// The runtime's words.
        reason: String,
    },
    /// The run's outputs.
    Ran {
        /// Of the request.
        seq: u64,
        /// In the order asked for.
        outputs: Vec<Tensor>,
    },
    /// The model failed on these inputs.
    RunFailed {
        /// Of the request.
        seq: u64,
        /// The runtime's words.
        reason: String,
    },
}

/// Appends [`Request::Run`] without owning the tensors.
pub fn encode_run(out: &mut Vec<u8>, seq: u64, outputs: &[usize], inputs: &[Tensor]) {
    out.push(3);
    out.extend_from_slice(&seq.to_le_bytes());
    put_len(out, outputs.len());
    for &output in outputs {
        put_len(out, output);
    }
    put_tensors(out, inputs);
}

/// Appends tensors alone.
pub fn encode_tensors(out: &mut Vec<u8>, tensors: &[Tensor]) {
    put_tensors(out, tensors);
}

/// Reads what one or several calls of [`encode_tensors`] wrote.
///
/// # Errors
/// What is wrong with the bytes.
pub fn decode_tensors(bytes: &[u8]) -> Result<Vec<Tensor>, WireError> {
    let mut cursor = Cursor(bytes);
    let mut tensors = cursor.tensors()?;
    while !cursor.0.is_empty() {
        tensors.extend(cursor.tensors()?);
    }
    Ok(tensors)
}

impl Request {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Ping => out.push(1),
            Self::Mailbox => out.push(4),
            Self::Load {
                slips,
                threads,
                optimization,
                memory,
            } => {
                out.push(2);
                out.extend_from_slice(&threads.to_le_bytes());
                out.push(*optimization as u8);
                out.push(*memory as u8);
                put_len(out, slips.len());
                for slip in slips {
                    put_text(out, slip.name.as_bytes());
                    out.extend_from_slice(&slip.at.to_le_bytes());
                    out.extend_from_slice(&slip.length.to_le_bytes());
                }
            }
            Self::Run { seq, outputs, inputs } => {
                let outputs: Vec<usize> = outputs.iter().map(|&o| o as usize).collect();
                encode_run(out, *seq, &outputs, inputs);
            }
        }
    }

    /// Reads one whole message.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor(bytes);
        let message = match cursor.u8()? {
            1 => Self::Ping,
            2 => Self::Load {
                threads: cursor.u32()?,
                optimization: cursor.choice(&Optimization::EVERY)?,
                memory: cursor.choice(&Memory::EVERY)?,
                slips: slips(&mut cursor)?,
            },
            3 => Self::Run {
                seq: cursor.u64()?,
                outputs: cursor.numbers()?,
                inputs: cursor.tensors()?,
            },
            4 => Self::Mailbox,
            _ => return Err(WireError("unknown tag")),
        };
        cursor.end(message)
    }
}

impl Reply {
    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Pong { confinement } => out.extend_from_slice(&[1, confinement.bits()]),
            Self::Loaded(loaded) => {
                out.push(2);
                // Plain names and numbers: there is nothing in it that JSON cannot hold.
                put_text(out, &serde_json::to_vec(loaded).unwrap_or_default());
            }
            Self::LoadFailed { reason } => {
                out.push(3);
                put_text(out, reason.as_bytes());
            }
            Self::Ran { seq, outputs } => {
                out.push(4);
                out.extend_from_slice(&seq.to_le_bytes());
                put_tensors(out, outputs);
            }
            Self::RunFailed { seq, reason } => {
                out.push(5);
                out.extend_from_slice(&seq.to_le_bytes());
                put_text(out, reason.as_bytes());
            }
        }
    }

    /// Reads one whole message.
    ///
    /// # Errors
    /// What is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        let mut cursor = Cursor(bytes);
        let message = match cursor.u8()? {
            1 => Self::Pong {
                confinement: Confinement::of_bits(cursor.u8()?),
            },
            2 => {
                let text = cursor.block()?;
                Self::Loaded(serde_json::from_slice(text).map_err(|_| WireError("not a signature"))?)
            }
            3 => Self::LoadFailed { reason: cursor.text()? },
            4 => Self::Ran {
                seq: cursor.u64()?,
                outputs: cursor.tensors()?,
            },
            5 => Self::RunFailed {
                seq: cursor.u64()?,
                reason: cursor.text()?,
            },
            _ => return Err(WireError("unknown tag")),
        };
        cursor.end(message)
    }
}

fn slips(cursor: &mut Cursor<'_>) -> Result<Vec<Slip>, WireError> {
    let count = cursor.u32()?;
    // Grown as they come: the count is only a claim.
    let mut slips = Vec::new();
    for _ in 0..count {
        slips.push(Slip {
            name: cursor.text()?,
            at: cursor.u64()?,
            length: cursor.u64()?,
        });
    }
    Ok(slips)
}

fn put_text(out: &mut Vec<u8>, text: &[u8]) {
    put_len(out, text.len());
    out.extend_from_slice(text);
}

#[cfg(test)]
mod tests;
