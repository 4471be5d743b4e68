"""Which of the models that a server lists is asked."""

import json
from typing import Any

import pytest

from chatapp.upstream.model_catalog import chat_models


@pytest.mark.parametrize(
    "listing",
    [
        {"object": "list", "data": [{"id": "a"}, {"id": "b"}]},
        {"data": ["a", "b"]},
        {"models": [{"name": "a"}, {"model": "b"}]},
        {"data": None, "models": [{"id": "", "name": "a"}, {"id": 5, "name": "b"}]},
        [{"id": "a"}, {"id": "b"}],
        ["a", None, 7, [], "", "b"],
    ],
)
def test_a_list_may_have_any_form(listing: Any) -> None:
    assert chat_models(json.dumps(listing).encode()) == ["a", "b"]


@pytest.mark.parametrize("listing", [b"", b"{", b"7", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_list_has_no_models(listing: bytes) -> None:
    assert chat_models(listing) == []


@pytest.mark.parametrize(
    "name",
    [
        "text-embedding-3-small", "text-embedding-nomic-embed-text-v1.5", "BAAI/bge-m3",
        "intfloat/multilingual-e5-large", "sentence-transformers/all-MiniLM-L6-v2", "rerank-v3.5",
        "Qwen3-Reranker-8B", "whisper-1", "gpt-4o-transcribe", "tts-1-hd", "kokoro-TTS",
        "gpt-4o-audio-preview", "gpt-realtime", "dall-e-3", "gpt-image-1", "imagen-4.0",
        "stable-diffusion-xl", "black-forest-labs/FLUX.1-schnell", "omni-moderation-latest",
        "meta-llama/Llama-Guard-4-12B", "sora-2", "veo-3", "mistral-ocr-latest",
    ],
)  # fmt: skip
def test_a_model_that_answers_no_questions_is_never_the_default(name: str) -> None:
    listing = {"data": [{"id": name, "object": "model"}, {"id": "chat"}]}
    assert chat_models(json.dumps(listing).encode()) == ["chat"]


@pytest.mark.parametrize(
    "about",
    [
        {"type": "embeddings"},
        {"type": "image"},
        {"task": "text-to-image"},
        {"task": "image-generation"},
        {"mode": "audio_transcription"},
        {"capabilities": {"completion_chat": False}},
        {"architecture": {"output_modalities": ["image"]}},
    ],
)
def test_nor_one_of_which_that_is_told(about: dict[str, Any]) -> None:
    listing = [{"id": "first", **about}, {"id": "chat", "type": "chat"}]
    assert chat_models(json.dumps(listing).encode()) == ["chat"]


@pytest.mark.parametrize(
    "about",
    [
        {"id": "gpt-5-mini", "object": "model", "owned_by": "openai"},
        {"id": "models/gemini-2.5-flash"},
        {"id": "meta-llama/Llama-3.2-11B-Vision-Instruct", "task": "image-text-to-text"},
        {"id": "gemma3:4b", "type": "vlm", "capabilities": ["completion", "vision"]},
        {"id": "mistral-large", "capabilities": {"completion_chat": True}},
        {"id": "x/y", "architecture": {"output_modalities": ["text", "image"]}},
        {"id": "deepseek-chat", "type": "model"},
        {"id": "SmolLM2-135M-Instruct", "type": 5, "capabilities": None, "architecture": []},
    ],
)
def test_one_that_answers_is(about: dict[str, Any]) -> None:
    assert chat_models(json.dumps([about]).encode()) == [about["id"]]
