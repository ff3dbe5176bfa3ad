"""Chinese shared documents: WS/T 500 (53 kinds) and WS/T 483 (20 kinds) as CDA R2, in and out.

The core is pure functions, without database or network:

* ``kinds.KINDS`` – the kinds by number ("500.2", "483.12"); ``kinds.find`` tells the kind of a document.
* ``reading.read(data: bytes) -> model.Document`` – tolerant and safe; refuses with ``feeds.errors.Refusal``.
* ``mapping.resources(document, patient_reference, context) -> mapping.Mapped`` – the document as FHIR R4.
* ``mapping.Context(source, organization="", key="")`` – whose document it is: ``source`` names the
  sender (part of every id made), ``organization`` its Organization reference, ``key`` the document's lasting key when the
  registry knows better than ``document.key`` (a replacement without a set id).
* ``mapping.Mapped(composition, resources, warnings, mapping, shared)`` – ``resources`` begins with the Composition, all have
  stable ids; ``shared`` are ids of resources other documents may make too (the Encounter): merge, do not replace.
* ``writing.write(kind, resources, header) -> bytes`` – FHIR as a document; ``header`` is a ``model.Header``
  (a ``Document`` that was read is one); ``writing.header_of(...)`` makes one of FHIR resources.

Which data element becomes what stands in ``data/`` and is read both ways.
"""
