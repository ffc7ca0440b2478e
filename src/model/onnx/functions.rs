//! Functions that a file defines itself: what calling them unfolds to.
//!
//! ONNX Runtime puts a function's nodes in the place of each call before it runs anything. Always holds: a function that
//! calls itself, by whatever way, is refused, and so is a file that unfolds beyond the limits of an unfolded one.

use std::collections::HashMap;

use super::wire::shown;
use super::{MAX_CALLS, MAX_DEPTH, MAX_NODES, ScanError};

/// Domain, name, overload.
pub(super) type Key = (String, String, String);

/// What the nodes of the graph, or of one function, are.
#[derive(Default)]
pub(super) struct Body {
    pub(super) nodes: u64,
    pub(super) depth: usize,
    /// How often each operator from outside the standard is used, and how deep at most.
    pub(super) calls: HashMap<Key, (u64, usize)>,
}

/// What a body is after unfolding.
#[derive(Clone, Copy)]
struct Size {
    nodes: u64,
    depth: usize,
    /// Longest chain of calls.
    chain: usize,
}

/// Checks what the file unfolds to.
pub(super) fn check(main: &Body, functions: &HashMap<Key, Body>) -> Result<(), ScanError> {
    if functions.is_empty() {
        return Ok(());
    }
    let mut known = HashMap::new();
    // Those that nobody calls, too: a reader may look into them.
    for key in functions.keys() {
        size(key, functions, &mut known, 0)?;
    }
    let Size { nodes, depth, .. } = unfold(main, functions, &mut known, 0)?;
    if nodes > MAX_NODES as u64 {
        return Err(ScanError(format!(
            "its functions unfold to {nodes} nodes, and {MAX_NODES} is the limit"
        )));
    }
    if depth > MAX_DEPTH {
        return Err(ScanError(format!(
            "graphs are nested deeper than {MAX_DEPTH}, which is the limit, once its functions are unfolded"
        )));
    }
    Ok(())
}

fn size(
    key: &Key,
    functions: &HashMap<Key, Body>,
    known: &mut HashMap<Key, Option<Size>>,
    calls: usize,
) -> Result<Size, ScanError> {
    let Some(body) = functions.get(key) else {
        // An operator of somebody else's library: itself a node.
        return Ok(Size {
            nodes: 1,
            depth: 1,
            chain: 0,
        });
    };
    let name = || shown(key.1.as_bytes());
    match known.get(key) {
        Some(Some(size)) => return Ok(*size),
        Some(None) => return Err(ScanError(format!("its function {} calls itself", name()))),
        None if calls > MAX_CALLS => return Err(too_deep(&name())),
        None => {}
    }
    known.insert(key.clone(), None);
    let mut size = unfold(body, functions, known, calls + 1)?;
    size.chain += 1;
    // Also where a part of the chain was known already.
    if size.chain > MAX_CALLS {
        return Err(too_deep(&name()));
    }
    known.insert(key.clone(), Some(size));
    Ok(size)
}

fn unfold(
    body: &Body,
    functions: &HashMap<Key, Body>,
    known: &mut HashMap<Key, Option<Size>>,
    calls: usize,
) -> Result<Size, ScanError> {
    let mut all = Size {
        nodes: body.nodes,
        depth: body.depth,
        chain: 0,
    };
    for (key, (count, depth)) in &body.calls {
        let inner = size(key, functions, known, calls)?;
        all.nodes = all.nodes.saturating_add(count.saturating_mul(inner.nodes));
        all.depth = all.depth.max((depth + inner.depth).saturating_sub(1));
        all.chain = all.chain.max(inner.chain);
    }
    Ok(all)
}

fn too_deep(name: &str) -> ScanError {
    ScanError(format!(
        "its functions call each other deeper than {MAX_CALLS} at {name}, which is the limit"
    ))
}
