use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::model::signature::TensorSpec;
use crate::model::tensor::{Data, Datatype, Text};

fn data(count: usize) -> impl Strategy<Value = Data> {
    let text = vec(vec(any::<u8>(), 0..6), count).prop_map(|words| {
        let mut text = Text::default();
        for word in words {
            assert!(text.push(&word));
        }
        Data::Bytes(text)
    });
    prop_oneof![
        vec(any::<bool>(), count).prop_map(Data::Bool),
        vec(any::<u8>(), count).prop_map(Data::Uint8),
        vec(any::<u16>(), count).prop_map(Data::Uint16),
        vec(any::<u32>(), count).prop_map(Data::Uint32),
        vec(any::<u64>(), count).prop_map(Data::Uint64),
        vec(any::<i8>(), count).prop_map(Data::Int8),
        vec(any::<i16>(), count).prop_map(Data::Int16),
        vec(any::<i32>(), count).prop_map(Data::Int32),
        vec(any::<i64>(), count).prop_map(Data::Int64),
        vec(-9.0f32..9.0, count).prop_map(|v| Data::Fp16(v.into_iter().map(half::f16::from_f32).collect())),
        vec(-1e30f32..1e30, count).prop_map(Data::Fp32),
        vec(-1e300f64..1e300, count).prop_map(Data::Fp64),
        text,
    ]
}

fn tensor() -> impl Strategy<Value = Tensor> {
    vec(0usize..4, 0..4).prop_flat_map(|shape| {
        let count = shape.iter().product();
        data(count).prop_map(move |data| Tensor::new(shape.clone(), data).unwrap())
    })
}

fn reply() -> impl Strategy<Value = Reply> {
    let loaded = (vec((".{0,9}", vec(-1i64..9, 0..3)), 0..4), ".{0,9}").prop_map(|(specs, word)| {
        let specs = specs.into_iter().map(|(name, shape)| TensorSpec {
            name,
            datatype: Datatype::Fp16,
            shape,
        });
        Reply::Loaded(Box::new(Loaded {
            signature: Signature {
                inputs: specs.collect(),
                outputs: Vec::new(),
                crossed: false,
            },
            metadata: BTreeMap::from([(word.clone(), word)]),
        }))
    });
    prop_oneof![
        (0u8..16).prop_map(|bits| Reply::Pong {
            confinement: Confinement::of_bits(bits),
        }),
        loaded,
        ".{0,20}".prop_map(|reason| Reply::LoadFailed { reason }),
        (any::<u64>(), vec(tensor(), 0..4)).prop_map(|(seq, outputs)| Reply::Ran { seq, outputs }),
        (any::<u64>(), ".{0,20}").prop_map(|(seq, reason)| Reply::RunFailed { seq, reason }),
    ]
}

fn encoded(reply: &Reply) -> Vec<u8> {
    let mut out = Vec::new();
    reply.encode(&mut out);
    out
}

/// Bytes on the heap behind a decoded answer, at least: what a claimed length could inflate.
fn heap_bytes(reply: &Reply) -> usize {
    let Reply::Ran { outputs, .. } = reply else {
        return 0;
    };
    let tensors = outputs.iter().map(|t| {
        let elements =
            crate::each_data!(t.data(), v => size_of_val(v.as_slice()), t => t.iter().map(|e| e.len() + 4).sum());
        t.shape().len() * 8 + elements
    });
    outputs.capacity() * size_of::<Tensor>() + tensors.sum::<usize>()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(256) })]

    #[test]
    fn answers_read_back_as_they_were_sent(reply in reply()) {
        prop_assert_eq!(Reply::decode(&encoded(&reply)).unwrap(), reply);
    }

    #[test]
    fn requests_read_back_as_they_were_sent(
        seq in any::<u64>(),
        outputs in vec(any::<u32>(), 0..5),
        inputs in vec(tensor(), 0..4),
        names in vec(("[a-zü/]{0,20}", any::<u64>(), any::<u64>()), 0..4),
        threads in any::<u32>(),
        optimization in prop::sample::select(&Optimization::EVERY[..]),
        memory in prop::sample::select(&Memory::EVERY[..]),
    ) {
        let slips = names.into_iter().map(|(name, at, length)| Slip { name, at, length }).collect();
        let load = Request::Load { slips, threads, optimization, memory };
        for request in [Request::Ping, Request::Mailbox, load, Request::Run { seq, outputs, inputs }] {
            let mut out = Vec::new();
            request.encode(&mut out);
            prop_assert_eq!(Request::decode(&out).unwrap(), request);
        }
    }

    #[test]
    fn a_shortened_or_lengthened_message_is_refused(reply in reply(), cut in any::<prop::sample::Index>()) {
        let mut bytes = encoded(&reply);
        prop_assert!(Reply::decode(&bytes[..cut.index(bytes.len())]).is_err());
        bytes.push(0);
        prop_assert!(Reply::decode(&bytes).is_err());
    }

    #[test]
    fn no_mutated_message_panics_or_takes_memory_beyond_its_length(
        reply in reply(),
        changes in vec((any::<prop::sample::Index>(), prop_oneof![Just(0u8), Just(1), Just(0x7f), Just(0xff), any::<u8>()]), 1..6),
    ) {
        let mut bytes = encoded(&reply);
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(read) = Reply::decode(&bytes) {
            // The smallest tensor takes 3 bytes on the wire; a list's spare room doubles it, and starts at four.
            prop_assert!(heap_bytes(&read) <= size_of::<Tensor>() * (bytes.len() + 4));
        }
        let _ = Request::decode(&bytes);
    }
}

#[test]
fn claims_of_huge_tensors_are_refused_at_once() {
    let head = |tensors: u32| [&[4u8][..], &[0; 16], &tensors.to_le_bytes()].concat();
    let dims = |dims: &[u64]| dims.iter().flat_map(|d| d.to_le_bytes()).collect::<Vec<u8>>();
    let huge = [
        head(u32::MAX),
        [head(1), vec![10, 1], dims(&[1 << 61])].concat(),
        [head(1), vec![10, 2], dims(&[1 << 40, 1 << 40])].concat(),
        [head(1), vec![12, 1], dims(&[u64::MAX])].concat(),
        [head(1), vec![10, 255]].concat(),
        [head(1), vec![13, 0]].concat(),
        [head(1), vec![0, 1], dims(&[1]), vec![2]].concat(),
    ];
    for bytes in huge {
        assert!(Reply::decode(&bytes).is_err(), "{bytes:?}");
    }
}
