"""Small chat templates like those of known models, and a tokenizer that preserves every character."""

import copy
from functools import cache
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

# Each turn is "ROLE : CONTENT </s>".
PLAIN = (
    "{% for message in messages %}{{ message.role }} : {{ message.content }} </s> {% endfor %}"
    "{% if add_generation_prompt %}assistant :{% endif %}"
)

# Concatenates strings, so content is required; writes only the names of calls.
ADDING = (
    "{% for m in messages %}{{ '<s> ' + m['role'] + ' : ' + m['content'] }}{% if m.get('tool_calls') %}"
    "{% for c in m['tool_calls'] %}{{ ' tool ' + c['function']['name'] }}{% endfor %}{% endif %}{{ ' </s> ' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<s> assistant : ' }}{% endif %}"
)

# Like Qwen 2.5: calls as JSON, with arguments that must be a map; unknown roles are dropped.
CHATML = """
{%- if tools %}
<|im_start|>system
Tools:
{%- for tool in tools %} {{ tool | tojson }}{% endfor %}<|im_end|>
{% endif %}
{%- for m in messages %}
    {%- if m.role in ('system', 'user') or (m.role == 'assistant' and not m.tool_calls) %}
        {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
    {%- elif m.role == 'assistant' %}
        {{- '<|im_start|>assistant' }}
        {%- if m.content %}{{ '\n' + m.content }}{% endif %}
        {%- for call in m.tool_calls %}
            {{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
            {{- call.function.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- elif m.role == 'tool' %}
        {{- '<|im_start|>user\n<tool_response>\n' + m.content + '\n</tool_response><|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"""

# Like Qwen 3: reasoning only in answers after the last question, where empty reasoning is written too.
REASONING = """
{%- set ns = namespace(last=0) %}
{%- for m in messages %}
    {%- if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for m in messages %}
    {%- if m.role == 'assistant' %}
        {%- set content = m.content if m.content is string else '' %}
        {%- set reasoning = m.reasoning_content if m.reasoning_content is string else '' %}
        {%- if '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].split('<think>')[-1].strip('\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\n') %}
        {%- endif %}
        {{- '<|im_start|>assistant\n' }}
        {%- if loop.index0 > ns.last and (loop.last or reasoning) %}
            {{- '<think>\n' + reasoning.strip('\n') + '\n</think>\n\n' }}
        {%- endif %}
        {{- content }}
        {%- for call in m.tool_calls or [] %}
            {%- set arguments = call.function.arguments %}
            {{- '\n<tool_call>' + call.function.name + ' ' }}
            {{- arguments if arguments is string else arguments | tojson }}
            {{- '</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- else %}
        {{- '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}
{%- endif %}"""

# Like Llama 3.1: trims, accepts one call at a time, and leaves out content beside it.
LLAMA = """
{%- for m in messages %}
    {%- if m.tool_calls is defined and m.tool_calls %}
        {%- if m.tool_calls | length != 1 %}{{ raise_exception('one tool call at a time') }}{% endif %}
        {%- set call = m.tool_calls[0].function %}
        {{- '<|start|>assistant<|end|>\n\n{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}{{ '}<|eot|>' }}
    {%- elif m.role == 'tool' %}
        {{- '<|start|>ipython<|end|>\n\n' + (m.content | tojson) + '<|eot|>' }}
    {%- else %}
        {{- '<|start|>' + m.role + '<|end|>\n\n' + m.content | trim + '<|eot|>' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|start|>assistant<|end|>\n\n' }}{% endif %}"""

# Like Mistral: no generation prompt, tools only before the last question, and roles must alternate.
MISTRAL = """
{%- set ns = namespace(last=0) %}
{%- for m in messages %}
    {%- if m.role == 'user' %}{% set ns.last = loop.index0 %}{% endif %}
{%- endfor %}
{%- for m in messages %}
    {%- if m.role == 'user' %}
        {%- if tools and loop.index0 == ns.last %}{{ '[TOOLS]' + (tools | tojson) + '[/TOOLS]' }}{% endif %}
        {{- '[INST] ' + m.content + '[/INST]' }}
    {%- elif m.tool_calls %}
        {{- '[TOOL_CALLS][' }}
        {%- for call in m.tool_calls %}
            {%- if call.id | length != 9 %}{{ raise_exception('tool call IDs have 9 characters') }}{% endif %}
            {{- call.function | tojson }}{{ ', ' if not loop.last }}
        {%- endfor %}
        {{- ']</s>' }}
    {%- elif m.role == 'assistant' %}
        {{- ' ' + m.content + '</s>' }}
    {%- elif m.role == 'tool' %}
        {{- '[TOOL_RESULTS]' + m.content + ' ' + m.tool_call_id + '[/TOOL_RESULTS]' }}
    {%- else %}
        {{- raise_exception('Only user, assistant and tool roles are supported, got ' + m.role) }}
    {%- endif %}
{%- endfor %}"""

# Like Gemma 3: content may be a list of parts.
PARTS = """
{%- for m in messages %}
    {{- '<turn>' + m.role + '\n' }}
    {%- if m.content is string %}{{ m.content | trim }}{% else %}
        {%- for part in m.content %}{{ part.text | trim }}|{% endfor %}
    {%- endif %}
    {{- '<end>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<turn>assistant\n' }}{% endif %}"""


def with_template(template: str) -> Any:
    """A tokenizer of single bytes."""
    tokenizer = copy.deepcopy(_of_bytes())
    tokenizer.chat_template = template
    return tokenizer


@cache
def _of_bytes() -> Any:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: number for number, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(  # pyright: ignore[reportAttributeAccessIssue]
        add_prefix_space=False, use_regex=False
    )
    tokenizer.decoder = decoders.ByteLevel()  # pyright: ignore[reportAttributeAccessIssue]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False)
