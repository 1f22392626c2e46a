"""Teaches schemathesis the media types of Annals: EDN and rows are text."""

import schemathesis


@schemathesis.serializer("application/edn")
def edn(ctx, value):
    return (value if isinstance(value, str) else str(value)).encode("utf-8", "surrogatepass")


@schemathesis.deserializer("application/edn", "application/x-ndjson", "text/csv", "text/event-stream", "text/plain")
def text(ctx, response):
    return response.content.decode("utf-8")
