//! What is told of the server, its models and its repository, as the protocol's messages.

use super::pb::inference as pb;
use crate::error::{Error, Kind};
use crate::http::{Backend, infer, models};
use crate::model::signature::TensorSpec;
use crate::oip::statistics::Total;
use crate::oip::{EXTENSIONS, Metadata, PLATFORM, Statistics, contract};

type TensorMetadata = pb::model_metadata_response::TensorMetadata;

/// An empty version is none.
fn some(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

/// `ServerMetadata`.
pub(super) fn server() -> pb::ServerMetadataResponse {
    pb::ServerMetadataResponse {
        name: "dethrone".to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: EXTENSIONS.map(str::to_owned).to_vec(),
    }
}

/// `ModelReady`: not ready is an answer, an unknown model is not.
pub(super) fn model_ready<B: Backend>(
    backend: &B,
    asked: &pb::ModelReadyRequest,
) -> Result<pb::ModelReadyResponse, Error> {
    let ready = backend
        .model_ready(&asked.name)
        .and_then(|()| match some(&asked.version) {
            Some(version) => infer::version(&*backend.resolve(Some(&asked.name))?, version).map(drop),
            None => Ok(()),
        });
    match ready {
        Ok(()) => Ok(pb::ModelReadyResponse { ready: true }),
        Err(error) if error.kind == Kind::NotReady => Ok(pb::ModelReadyResponse { ready: false }),
        Err(error) => Err(error),
    }
}

/// `ModelMetadata`.
pub(super) fn metadata<B: Backend>(
    backend: &B,
    asked: &pb::ModelMetadataRequest,
) -> Result<pb::ModelMetadataResponse, Error> {
    let described = models::metadata(backend, &asked.name, some(&asked.version))?;
    let tensor = |spec: TensorSpec| TensorMetadata {
        name: spec.name,
        datatype: spec.datatype.name().to_owned(),
        shape: spec.shape,
    };
    Ok(pb::ModelMetadataResponse {
        name: described.name,
        versions: described.versions,
        platform: described.platform.to_owned(),
        inputs: described.inputs.into_iter().map(tensor).collect(),
        outputs: described.outputs.into_iter().map(tensor).collect(),
    })
}

/// `ModelConfig`: what [`Metadata::config`] says as JSON.
pub(super) fn config<B: Backend>(
    backend: &B,
    asked: &pb::ModelConfigRequest,
) -> Result<pb::ModelConfigResponse, Error> {
    let (described, max_rows) = models::config(backend, &asked.name, some(&asked.version))?;
    let config = model_config(&described, max_rows);
    Ok(pb::ModelConfigResponse { config: Some(config) })
}

fn model_config(described: &Metadata, max_rows: usize) -> pb::ModelConfig {
    let data_type = |spec: &TensorSpec| {
        let name = contract::data_type(spec.datatype);
        pb::DataType::from_str_name(&name)
            .unwrap_or(pb::DataType::TypeInvalid)
            .into()
    };
    let input = |spec: &TensorSpec| pb::ModelInput {
        name: spec.name.clone(),
        data_type: data_type(spec),
        dims: described.dims(spec).to_vec(),
        ..Default::default()
    };
    let output = |spec: &TensorSpec| pb::ModelOutput {
        name: spec.name.clone(),
        data_type: data_type(spec),
        dims: described.dims(spec).to_vec(),
        ..Default::default()
    };
    let latest = pb::model_version_policy::Latest { num_versions: 1 };
    pb::ModelConfig {
        name: described.name.clone(),
        platform: PLATFORM.to_owned(),
        backend: "onnxruntime".to_owned(),
        version_policy: Some(pb::ModelVersionPolicy {
            policy_choice: Some(pb::model_version_policy::PolicyChoice::Latest(latest)),
        }),
        max_batch_size: i32::try_from(described.max_batch_size(max_rows)).unwrap_or(i32::MAX),
        input: described.inputs.iter().map(input).collect(),
        output: described.outputs.iter().map(output).collect(),
        instance_group: vec![pb::ModelInstanceGroup {
            name: described.name.clone(),
            count: 1,
            gpus: Vec::new(),
            kind: pb::model_instance_group::Kind::Cpu.into(),
        }],
        default_model_filename: "model.onnx".to_owned(),
        ..Default::default()
    }
}

/// `ModelStatistics`; without a name, of all models.
pub(super) fn statistics<B: Backend>(
    backend: &B,
    asked: &pb::ModelStatisticsRequest,
) -> Result<pb::ModelStatisticsResponse, Error> {
    let counted = models::statistics(backend, some(&asked.name), some(&asked.version))?;
    Ok(pb::ModelStatisticsResponse {
        model_stats: counted.into_iter().map(counts).collect(),
    })
}

fn duration(total: Total) -> Option<pb::StatisticDuration> {
    Some(pb::StatisticDuration {
        count: total.count,
        ns: total.ns,
    })
}

fn counts(of: Statistics) -> pb::ModelStatistics {
    let times = of.inference_stats;
    let batches = of.batch_stats.into_iter().map(|batch| pb::InferBatchStatistics {
        batch_size: batch.batch_size,
        compute_input: duration(batch.compute_input),
        compute_infer: duration(batch.compute_infer),
        compute_output: duration(batch.compute_output),
    });
    pb::ModelStatistics {
        name: of.name,
        version: of.version,
        last_inference: of.last_inference,
        inference_count: of.inference_count,
        execution_count: of.execution_count,
        inference_stats: Some(pb::InferStatistics {
            success: duration(times.success),
            fail: duration(times.fail),
            queue: duration(times.queue),
            compute_input: duration(times.compute_input),
            compute_infer: duration(times.compute_infer),
            compute_output: duration(times.compute_output),
            cache_hit: duration(times.cache_hit),
            cache_miss: duration(times.cache_miss),
        }),
        batch_stats: batches.collect(),
        ..Default::default()
    }
}

/// `RepositoryIndex`.
pub(super) fn index<B: Backend>(
    backend: &B,
    asked: &pb::RepositoryIndexRequest,
) -> Result<pb::RepositoryIndexResponse, Error> {
    let entries = models::index(backend, asked.ready).into_iter();
    let models = entries.map(|entry| pb::repository_index_response::ModelIndex {
        name: entry.name,
        version: entry.version.unwrap_or_default(),
        state: entry.state.to_owned(),
        reason: entry.reason,
    });
    Ok(pb::RepositoryIndexResponse {
        models: models.collect(),
    })
}
