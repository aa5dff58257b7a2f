"""Licences by the identifiers that the Hugging Face hub has for them (https://huggingface.co/docs/hub/repositories-licenses)."""

from __future__ import annotations

from stages.errors import UsageError, nearest

COMMON = "mit, apache-2.0, cc-by-4.0, openrail, other …"
# the common ones first
_LICENCES = """
mit apache-2.0 openrail openrail++ bigscience-openrail-m creativeml-openrail-m bigscience-bloom-rail-1.0 bigcode-openrail-m
afl-3.0 artistic-2.0 bsl-1.0 bsd bsd-2-clause bsd-3-clause bsd-3-clause-clear c-uda
cc cc0-1.0 cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0
cc-by-nd-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0
cdla-sharing-1.0 cdla-permissive-1.0 cdla-permissive-2.0 wtfpl ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2
agpl-3.0 gfdl gpl gpl-2.0 gpl-3.0 lgpl lgpl-2.1 lgpl-3.0 lgpl-lr isc h-research intel-research lppl-1.3c ms-pl
apple-ascl apple-amlr mpl-2.0 odc-by odbl openmdw-1.0 osl-3.0 postgresql ofl-1.1 ncsa unlicense zlib pddl
deepfloyd-if-license fair-noncommercial-research-license llama2 llama3 llama3.1 llama3.2 llama3.3 llama4 gemma
grok2-community unknown other
""".split()  # noqa: SIM905 (a list of literals is three times as long)


def licence_of(text: str) -> str:
    """The identifier of a licence, written in capitals or not. Raises UsageError for one that the hub does not have."""
    name = text.strip().lower()
    if name not in _LICENCES:
        raise UsageError(
            f"'{text}' is not the hub's identifier of a licence",
            f"write it as the hub does, for example {nearest(name, _LICENCES)}; 'other' stands for a licence without one; "
            "the list is at https://huggingface.co/docs/hub/repositories-licenses",
        )
    return name
