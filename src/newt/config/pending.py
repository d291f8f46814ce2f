"""Keys of the field that Newt knows but may not do yet.

A key that a section owns is read by that section, whatever is written here; the others are refused with
"is known, but Newt does not support it yet", never ignored. So the table lists every key and needs no care when
one of them gets its owner.
"""

from __future__ import annotations

from collections.abc import Mapping


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOPICS: Mapping[str, str] = {
    "run": """
        strict resume_from_checkpoint auto_resume_from_checkpoints trainer_cls seed plugins output_dir hub_model_id
        hub_strategy hub_revision save_safetensors max_steps num_epochs max_grad_norm is_preprocess
        preprocess_iterable axolotl_config_path total_num_tokens total_supervised_tokens local_rank world_size
        device is_falcon_derived_model is_llama_derived_model is_mistral_derived_model is_qwen_derived_model
        dynamic_checkpoint debug
    """,
    "model": """
        base_model base_model_config cls_model_config type_of_model model_type revision_of_model model_revision
        overrides_of_model_config model_config overrides_of_model_kwargs model_kwargs trust_remote_code
        experimental_skip_move_to_device use_kernels model_quantization_config model_quantization_config_kwargs
        use_onebitllms reinit_weights device_map max_memory gpu_memory_limit low_cpu_mem_usage
        llama4_linearized_experts experts_implementation quantize_moe_experts gptq freeze_mm_modules
        unfrozen_parameters is_multimodal
    """,
    "tokenizer": """
        tokenizer_config tokenizer_type tokenizer_use_fast tokenizer_legacy tokenizer_use_mistral_common
        tokenizer_save_jinja_files processor_type processor_kwargs special_tokens tokens added_tokens_overrides
        resize_token_embeddings_to_32x mean_resizing_embeddings shrink_embeddings embeddings_skip_upcast
        fix_untrained_tokens chat_template chat_template_jinja chat_template_kwargs eot_tokens
        default_system_message
    """,
    "adapter": """
        adapter load_in_8bit load_in_4bit lora_model_dir lora_r lora_alpha lora_dropout lora_target_modules
        lora_target_parameters lora_target_linear lora_exclude_modules lora_modules_to_save lora_fan_in_fan_out
        lora_rank_pattern lora_alpha_pattern peft_layers_to_transform peft_layers_pattern peft peft_use_dora
        peft_use_rslora peft_layer_replication peft_init_lora_weights peft_trainable_token_indices
        peft_ensure_weight_tying peft_autocast_adapter_dtype qlora_sharded_model_loading lora_on_cpu
        bnb_config_kwargs loraplus_lr_ratio loraplus_lr_embedding merge_lora merge_method relora
        relora_prune_ratio relora_cpu_offload relora_prune_method jagged_restart_steps
        jagged_restart_warmup_steps jagged_restart_anneal_steps lisa_n_layers lisa_step_interval
        lisa_layers_attribute lora_mlp_kernel lora_qkv_kernel lora_o_kernel lora_embedding_kernel
    """,
    "batch": """
        micro_batch_size gradient_accumulation_steps batch_size eval_batch_size auto_find_batch_size sequence_len
        eval_sequence_len excess_length_strategy min_sample_len max_prompt_len sample_packing eval_sample_packing
        sample_packing_group_size sample_packing_bin_size sample_packing_sequentially
        sample_packing_mp_start_method sample_packing_eff_est pad_to_sequence_len pad_to_multiple_of
        curriculum_sampling multipack_real_batches batch_flattening use_pose pose_split_on_token_ids
        pose_max_context_len pose_num_chunks group_by_length train_on_inputs dataloader_num_workers
        dataloader_pin_memory dataloader_prefetch_factor dataloader_drop_last accelerator_config
        remove_unused_columns
    """,
    "data": """
        datasets test_datasets val_set_size pretraining_dataset streaming streaming_multipack_buffer_size
        pretrain_multipack_buffer_size pretrain_multipack_attn pretraining_sample_concatenation
        shuffle_merged_datasets shuffle_before_merging_datasets dataset_prepared_path dataset_shard_num
        dataset_shard_idx skip_prepare_dataset num_dataset_shards_to_save dataset_num_proc dataset_processes
        dataset_exact_deduplication dataset_keep_in_memory push_dataset_to_hub hf_use_auth_token
    """,
    "optimizer": """
        learning_rate optimizer optim_args optim_target_modules torchdistx_path weight_decay adam_beta1 adam_beta2
        adam_epsilon adam_beta3 adam_epsilon2 dion_lr dion_momentum dion_rank_fraction dion_rank_multiple_of
        qgalore_rank qgalore_update_proj_gap qgalore_scale qgalore_proj_type qgalore_proj_quant qgalore_proj_bits
        qgalore_proj_group_size qgalore_cos_threshold qgalore_gamma_proj qgalore_queue_size lr_scheduler
        lr_scheduler_kwargs lr_quadratic_warmup cosine_min_lr_ratio cosine_constant_lr_ratio lr_div_factor
        lr_groups embedding_lr embedding_lr_scale warmup_steps warmup_ratio neftune_noise_alpha
        noisy_embedding_alpha grokfast_alpha grokfast_lamb
    """,
    "cadence": """
        eval_steps evals_per_epoch eval_strategy evaluation_strategy save_steps saves_per_epoch save_strategy
        save_total_limit save_only_model save_first_step load_best_model_at_end logging_steps
        early_stopping_patience metric_for_best_model greater_is_better loss_watchdog_threshold
        loss_watchdog_patience gc_steps torch_empty_cache_steps gc_collect_steps do_causal_lm_eval
        eval_causal_lm_metrics eval_table_size eval_max_new_tokens generate_samples num_generation_samples
        generation_max_new_tokens generation_temperature generation_top_p generation_top_k
        generation_prompt_ratio generation_do_sample do_bench_eval bench_dataset bench_split profiler_steps
        profiler_steps_start include_tokens_per_second include_tkps
    """,
    "precision and memory": """
        bf16 fp16 fp8 fp8_enable_fsdp_float8_all_gather bfloat16 float16 float32 tf32 gradient_checkpointing
        gradient_checkpointing_kwargs activation_offloading selective_checkpointing layer_offloading torch_compile
        torch_compile_backend torch_compile_mode torch_compile_options qat quantization
    """,
    "kernels and attention": """
        attn_implementation flash_attention sdp_attention flex_attention xformers_attention eager_attention
        sage_attention flash_optimum flash_attn_cross_entropy
        flash_attn_fuse_mlp flex_attn_compile_kwargs gemma4_hybrid_attn_impl large_head_attention sdpa_varlen
        fused_attn_kernel flash_attn_d512 scaling_softmax scaling_softmax_factor scaling_softmax_bias
        chunked_cross_entropy chunked_cross_entropy_num_chunks use_eaft eaft_alpha eaft_k tiled_mlp
        tiled_mlp_num_shards tiled_mlp_use_original_mlp cut_cross_entropy liger_rope liger_rms_norm
        liger_rms_norm_gated liger_layer_norm liger_glu_activation liger_swiglu liger_cross_entropy
        liger_fused_linear_cross_entropy liger_use_token_scaling use_scattermoe use_sonicmoe expert_backend
        dense_mixer
    """,
    "parallelism": """
        ddp ddp_timeout ddp_bucket_cap_mb ddp_broadcast_buffers ddp_find_unused_parameters deepspeed deepcompile
        fsdp fsdp_config fsdp_version fsdp_final_state_dict_type dp_shard_size dp_replicate_size
        context_parallel_size sequence_parallel_degree tensor_parallel_size heads_k_stride ring_attn_func
        fp32_norms fp32_norm_classes use_ray ray_run_name ray_num_workers resources_per_worker
    """,
    "preference and reinforcement": """
        rl rl_beta dpo_beta dpo_use_weighting dpo_label_smoothing dpo_padding_free dpo_use_logits_to_keep
        dpo_norm_loss dpo_generate_during_eval rpo_alpha dpo_loss_type dpo_loss_weights precompute_ref_log_probs
        dpo_use_liger_kernel orpo_alpha simpo_gamma cpo_alpha kto_desirable_weight kto_undesirable_weight
        reward_model process_reward_model center_rewards_coefficient num_labels trl vllm ebft
    """,
    "other methods": """
        kd_trainer kd_alpha kd_ce_alpha kd_temperature kd_beta kd_normalize_topk kd_online_server
        kd_online_server_base_url kd_online_topk kd_online_timeout kd_temperature_min diffusion spectrum_top_fraction
        spectrum_model_name llmcompressor use_mora mora_type hatchery
    """,
    "tracking and display": """
        use_wandb wandb_name wandb_run_id wandb_mode wandb_project wandb_entity wandb_watch wandb_log_model
        use_mlflow mlflow_tracking_uri mlflow_experiment_name mlflow_run_name hf_mlflow_log_artifacts use_comet
        comet_api_key comet_workspace comet_project_name comet_experiment_key comet_mode comet_online
        comet_experiment_config use_tensorboard use_trackio trackio_project_name trackio_run_name
        trackio_space_id use_otel_metrics otel_metrics_host otel_metrics_port use_swanlab swanlab_project
        swanlab_experiment_name swanlab_description swanlab_mode swanlab_workspace swanlab_api_key
        swanlab_log_model swanlab_web_host swanlab_api_host gradio_title gradio_share gradio_server_name
        gradio_server_port gradio_max_new_tokens gradio_temperature lm_eval_tasks lm_eval_batch_size
        lm_eval_model lm_eval_post_train
    """,
    "multimodal": "image_size image_resize_algorithm role_boundaries",
}

PENDING: frozenset[str] = _words(" ".join(_TOPICS.values()))
"""Every top-level key of the field."""

PENDING_ENTRY: frozenset[str] = _words("""
    path name split revision data_files ds_type trust_remote_code type shards shards_idx preprocess_shards
    conversation input_format input_transform field_human field_model field chat_template chat_template_jinja
    field_messages field_tools field_thinking template_thinking_key message_property_mappings
    message_field_role message_field_content message_field_training message_field_training_detail split_thinking
    roles roles_to_train train_on_eos train_on_eot drop_system_message logprobs_field temperature field_chosen
    field_rejected step_separator max_completion_length train_on_last_step_only text_column skip length
    sequence_length min_input_id max_input_id seed weight
""")
"""Every key of an entry of ``datasets``."""

NESTED: Mapping[str, frozenset[str]] = {
    block: _words(names)
    for block, names in {
        "special_tokens": "bos_token eos_token pad_token unk_token additional_special_tokens",
        "dynamic_checkpoint": "enabled check_interval trigger_file_path",
        "peft": "loftq_config",
        "fsdp_config": """
            activation_checkpointing offload_params sync_module_states cpu_ram_efficient_loading
            cpu_offload_pin_memory use_orig_params state_dict_type final_state_dict_type auto_wrap_policy
            transformer_layer_cls_to_wrap reshard_after_forward mixed_precision_policy fsdp_version version
            min_num_params
        """,
        "selective_checkpointing": "save save_sliding_window recompute_layer_types offload",
        "qat": "activation_dtype weight_dtype quantize_embedding group_size fake_quant_after_n_steps",
        "quantization": "weight_dtype activation_dtype quantize_embedding group_size",
        "trl": """
            beta max_completion_length use_vllm vllm_mode vllm_server_host vllm_server_port vllm_server_timeout
            vllm_guided_decoding_regex reward_funcs reward_weights num_generations log_completions
            num_completions_to_print importance_sampling_level sync_ref_model ref_model_mixup_alpha
            ref_model_sync_steps scale_rewards temperature top_p top_k min_p repetition_penalty num_iterations
            epsilon epsilon_high use_liger_loss loss_type mask_truncated_completions vllm_enable_sleep_mode
            generation_batch_size generation_kwargs chat_template_kwargs rollout_func
            multi_objective_aggregation use_data_producer async_prefetch prefetch_depth vllm_sync_interval
            streaming_partial_batch streaming_min_groups vllm_importance_sampling_correction
            vllm_importance_sampling_mode vllm_importance_sampling_cap off_policy_mask_threshold
            use_bias_correction_kl reward_num_workers replay_buffer_size replay_recompute_logps
            reroll_start_fraction reroll_max_groups skip_zero_advantage_batches vllm_lora_sync
        """,
        "vllm": """
            device tensor_parallel_size data_parallel_size gpu_memory_utilization dtype max_model_len
            enable_prefix_caching host port enable_reasoning reasoning_parser enforce_eager serve_module
            worker_extension_cls
        """,
    }.items()
}
"""Keys of the nested blocks, so that one of them at the top level can be sent to its place."""

ON_BY_DEFAULT: frozenset[str] = _words("""
    tokenizer_legacy tokenizer_save_jinja_files save_safetensors pretrain_multipack_attn include_tkps
    experimental_skip_move_to_device comet_online generation_do_sample tiled_mlp_use_original_mlp
""")
"""For every other pending key, ``false`` asks for what Newt does anyway, so it is accepted."""
