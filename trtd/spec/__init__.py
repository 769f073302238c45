"""What the author wrote: one TOML file, read into a strict :class:`~trtd.spec.schema.Spec`.

Bytes become text, text becomes a table (``toml_file``), the table becomes a ``Spec`` (``load``, ``schema``, ``fields``,
``relations``). Whatever is wrong becomes diagnostics with file, line and key, all at once (``lines``, ``diagnose``,
``section_tree``, ``wording``). ``paths`` keeps the files that a spec names inside the allowed folders; ``json_schema``
tells editors.
"""
