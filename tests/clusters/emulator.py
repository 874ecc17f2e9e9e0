"""A store like Google's on this machine, run by tests: `python emulator.py PORT`.

gcp-storage-emulator answers one request at a time but does not know conditions, which our lock and
TensorStore rely on; they are added here, with the header that tells a reader the generation:
https://cloud.google.com/storage/docs/request-preconditions.
"""

import sys
from http import HTTPStatus

from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects


def conditional(handler):
    """`handler`, unless the object is (not) of the generation that the request names."""

    def handle(request, response, storage, *args, **kwargs):
        query, params = request.query, request.params
        name = params.get("object_id") or query.get("name", [None])[0]
        now = _generation(storage, params["bucket_name"], name)
        if query.get("ifGenerationMatch", [now])[0] != now:
            response.status = HTTPStatus.PRECONDITION_FAILED
            response.json({"error": {"code": 412, "message": "conditionNotMet"}})
        elif query.get("ifGenerationNotMatch", [None])[0] == now != "0":
            response.status = HTTPStatus.NOT_MODIFIED
        else:
            response["x-goog-generation"] = now
            handler(request, response, storage, *args, **kwargs)

    return handle


def _generation(storage, bucket: str, name: str | None) -> str:
    try:
        return storage.get_file_obj(bucket, name)["generation"]
    except NotFound:
        return "0"


if __name__ == "__main__":
    for handler in ("insert", "delete", "download", "get"):
        setattr(objects, handler, conditional(getattr(objects, handler)))
    from gcp_storage_emulator.server import create_server  # its table of handlers is made here

    create_server("127.0.0.1", int(sys.argv[1]), in_memory=True, default_bucket="runs").run()
