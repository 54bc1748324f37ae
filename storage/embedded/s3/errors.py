"""S3's error codes: their status and wording, and which of them an error of the lake becomes."""

from storage.embedded.errors import (
    BadRange,
    DiskFull,
    PreconditionFailed,
    ReadOnly,
    TooLarge,
    Unsupported,
    WritesStopped,
)
from storage.errors import Forbidden, NotFound, Refused, StorageError, Unavailable

CODES: dict[str, tuple[int, str]] = {
    "AccessDenied": (403, "Access Denied."),
    "AuthorizationHeaderMalformed": (
        400,
        "The authorization header is malformed; Invalid credential date. Date is not the same as "
        "X-Amz-Date.",
    ),
    "AuthorizationQueryParametersError": (400, "Error parsing the query's signature."),
    "BadDigest": (400, "The Content-Md5 you specified did not match what we received."),
    "BadRequest": (400, "400 BadRequest"),
    "BucketAlreadyExists": (409, "The requested bucket name is not available."),
    "ERRLakeFSNotSupported": (405, "This operation is not supported in LakeFS"),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed object size."),
    "ErrReadOnlyRepository": (403, "Attempted to write to a read-only repository"),
    "ErrWriteToProtectedBranch": (403, "Attempted to write to a protected branch"),
    "IncompleteBody": (
        400,
        "You did not provide the number of bytes specified by the Content-Length HTTP header.",
    ),
    "InternalError": (500, "We encountered an internal error, please try again."),
    "InsufficientStorage": (507, "No space left on the lake's disk."),
    "InvalidArgument": (400, "Invalid argument."),
    "ErrDeletingKey": (400, "error deleting object"),
    "InvalidDigest": (400, "The Content-Md5 you specified is not valid."),
    "InvalidPart": (
        400,
        "One or more of the specified parts could not be found. The part may not have been "
        "uploaded, or the specified entity tag may not match the part's entity tag.",
    ),
    "InvalidPartOrder": (
        400,
        "The list of parts was not in ascending order. The parts list must be specified in "
        "order by part number.",
    ),
    "InvalidRequest": (
        400,
        "The authorization mechanism you have provided is not supported. "
        "Please use AWS4-HMAC-SHA256.",
    ),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    "MalformedDate": (
        400,
        "Invalid date format header, expected to be in ISO8601, RFC1123 or RFC1123Z time format.",
    ),
    "MalformedXML": (
        400,
        "The XML you provided was not well-formed or did not validate against our published "
        "schema.",
    ),
    "MetadataTooLarge": (
        400,
        "Your metadata headers exceed the maximum allowed metadata size",
    ),
    "MissingFields": (400, "Missing fields in request."),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchUpload": (
        404,
        "The specified multipart upload does not exist. The upload ID may be invalid, or the "
        "upload may have been aborted or completed.",
    ),
    "NotImplemented": (501, "A header you provided implies functionality that is not implemented"),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "RequestTimeTooSkewed": (
        403,
        "The difference between the request time and the server's time is too large.",
    ),
    "ServiceUnavailable": (503, "The lake takes no writes until it is restarted."),
    "SignatureDoesNotMatch": (
        403,
        "The request signature we calculated does not match the signature you provided. "
        "Check your key and signing method.",
    ),
    "XAmzContentChecksumMismatch": (
        400,
        "The provided checksum does not match what was computed.",
    ),
    "XAmzContentSHA256Mismatch": (
        400,
        "The provided 'x-amz-content-sha256' header does not match what was computed.",
    ),
}

_OF_LAKE: tuple[tuple[type[StorageError], str], ...] = (
    (PreconditionFailed, "PreconditionFailed"),
    (Unsupported, "NotImplemented"),
    (TooLarge, "EntityTooLarge"),
    (BadRange, "InvalidRange"),
    (NotFound, "NoSuchKey"),
    (ReadOnly, "ErrReadOnlyRepository"),
    (Forbidden, "ErrWriteToProtectedBranch"),
    (Refused, "BadRequest"),
    (DiskFull, "InsufficientStorage"),
    (WritesStopped, "ServiceUnavailable"),
    (Unavailable, "ServiceUnavailable"),
)


class S3Refused(Refused):
    """A request that S3 has a code of its own for."""

    def __init__(self, code: str, problem: str = "", status: int = 0) -> None:
        super().__init__(problem or CODES[code][1])
        self.code = code
        self.status = status or CODES[code][0]


def find_status(error: StorageError) -> int:
    """The HTTP status for an error."""
    return error.status if isinstance(error, S3Refused) else CODES[find_code(error)][0]


def find_code(error: StorageError) -> str:
    """The S3 code for an error."""
    if isinstance(error, S3Refused):
        return error.code
    return next((code for kind, code in _OF_LAKE if isinstance(error, kind)), "InternalError")
