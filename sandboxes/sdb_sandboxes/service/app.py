"""The HTTP service: routes, back-pressure, and how the server starts and stops.

Place in the flow: `sdbench sandbox serve` -> `serve` -> uvicorn -> `Guard` -> a route -> `Judge`.
`/verify` and `/verify_batch` give full verdicts, `/run_code` speaks SandboxFusion's shape. A
request that finds the queue full is answered 429 with `Retry-After`; one whose client hangs up
gives its places back; stopping waits for what was accepted. What it does not do: it keeps no state,
serves no files, and knows one token for all clients.
"""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from dataclasses import dataclass, fields
from importlib.metadata import version
from typing import Any, Literal, TypeVar

import uvicorn
from fastapi import FastAPI, HTTPException, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import BaseModel, ConfigDict, Field

from sdb_sandboxes.errors import SandboxError
from sdb_sandboxes.languages import find_language
from sdb_sandboxes.rewards import Candidate, Judge
from sdb_sandboxes.service.fusion import (
    RunCodeRequest,
    RunCodeResponse,
    build_request,
    build_response,
)
from sdb_sandboxes.service.guard import Guard
from sdb_sandboxes.types import (
    Check,
    ExitCodeCheck,
    ResourceLimits,
    StdinCheck,
    SuiteCheck,
    Verdict,
)
from sdb_sandboxes.wire import check_from_json, read_check, read_limits

T = TypeVar("T")

MAX_LIMITS = ResourceLimits(
    cpu_s=300.0,
    wall_s=1200.0,
    memory_bytes=4 << 30,
    output_bytes=64 << 20,
    file_bytes=64 << 20,
    num_processes=128,
    allow_programs=True,
)
"""What a request may ask for at most; other programs start in containers only."""

RETRY_AFTER_S = 1
STOPPING_S = 60
"""How long accepted requests may take once the service is told to stop."""


@dataclass(frozen=True)
class ServiceSettings:
    """What the service runs on and how much of it."""

    token: str
    sandbox: str = "embedded"
    """`embedded`: Python only. `docker` or `docker:IMAGE` for Python, and the images of others."""
    num_slots: int | None = None
    max_pending: int = 256
    """Programs that run or wait at once; more are answered 429."""
    max_body_bytes: int = 16 << 20


class VerifyRequest(BaseModel):
    """A program and its check."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {
                    "program": "def f(x):\n    return x + 1\n",
                    "check": {
                        "kind": "function",
                        "entry_point": "f",
                        "cases": [{"args": [1], "expected": 2}],
                    },
                    "limits": {"cpu_s": 2},
                }
            ]
        },
    )

    program: str = Field(description="The whole source.")
    check: dict[str, Any] | str = Field(
        description="What `check_to_json` writes, as an object or as its text."
    )
    limits: dict[str, Any] = Field(
        default_factory=dict,
        description=f"Any of {', '.join(field.name for field in fields(ResourceLimits))}.",
    )
    group: str | None = Field(
        default=None, description="Groups take turns in the queue; default: the check."
    )


class BatchRequest(BaseModel):
    """Many programs for one check, as the answers of a group."""

    model_config = ConfigDict(extra="forbid")

    programs: list[str] = Field(min_length=1)
    check: dict[str, Any] | str
    limits: dict[str, Any] = Field(default_factory=dict)
    group: str | None = None


class BatchResponse(BaseModel):
    """Verdicts in the order of the programs."""

    verdicts: list[Verdict]


class Health(BaseModel):
    """That the service lives, and what it runs on."""

    status: Literal["ok"] = "ok"
    version: str
    sandbox_level: str
    num_pending: int
    max_pending: int


class ErrorBody(BaseModel):
    """Every error: one line that says what is wrong and what to do."""

    detail: str


class Service:
    """What the routes share: judges by sandbox, and the count of what is pending."""

    def __init__(self, settings: ServiceSettings) -> None:
        """Open the sandbox for Python.

        Raises:
            ValueError: No sandbox of that name.
            SandboxUnavailable: This host does not give it.
        """
        self.settings = settings
        self.num_pending = 0
        self._judges = {settings.sandbox: self._make_judge(settings.sandbox)}
        self.sandbox_level = self._judges[settings.sandbox].open()

    def close(self) -> None:
        """Close every sandbox that was opened."""
        for judge in self._judges.values():
            judge.close()

    def find_judge(self, language: str) -> Judge:
        """The judge whose sandbox runs a language. Raises ValueError for an unknown one."""
        image = find_language(language).image
        name = self.settings.sandbox
        if language != "python":
            if not name.startswith("docker"):
                raise ValueError(
                    f"language {language!r} needs the Docker sandbox, this service runs on "
                    f"{name!r}; use python, or start it with --sandbox docker"
                )
            name = f"docker:{image}"
        if name not in self._judges:
            self._judges[name] = self._make_judge(name)
        return self._judges[name]

    @contextlib.contextmanager
    def admit(self, num_programs: int) -> Iterator[None]:
        """Count programs as pending, or refuse them: 413 for too many at once, 429 for now."""
        limit = self.settings.max_pending
        if num_programs > limit:
            reason = f"{num_programs} programs at once; send at most {limit} in a request"
            raise HTTPException(413, reason)
        if self.num_pending + num_programs > limit:
            reason = f"{self.num_pending} programs are pending, the limit is {limit}; try later"
            raise HTTPException(429, reason, {"Retry-After": str(RETRY_AFTER_S)})
        self.num_pending += num_programs
        try:
            yield
        finally:
            self.num_pending -= num_programs

    async def verify(self, asked: VerifyRequest, request: Request) -> Verdict:
        """Judge one program and give its full verdict. A wrong answer is status 200 too."""
        check, limits = read_what_is_asked(asked.check, asked.limits)
        judge = self.find_judge(name_language(check))
        with self.admit(1):
            work = judge.verify_async(asked.program, check, limits, asked.group)
            return await run_while_connected(request, work)

    async def verify_batch(self, asked: BatchRequest, request: Request) -> BatchResponse:
        """Judge many programs with one check."""
        check, limits = read_what_is_asked(asked.check, asked.limits)
        judge = self.find_judge(name_language(check))
        candidates = [Candidate(program, check, limits) for program in asked.programs]
        with self.admit(len(candidates)):
            work = judge.verify_batch_async(candidates, asked.group)
            return BatchResponse(verdicts=await run_while_connected(request, work))

    async def run_code(self, asked: RunCodeRequest, request: Request) -> RunCodeResponse:
        """Run a program once and give what it printed, in SandboxFusion's shape."""
        program = build_request(asked)
        judge = self.find_judge(program.language)
        with self.admit(1):
            work = judge.run_async(lambda sandbox: sandbox.run_program(program), "run_code")
            result = await run_while_connected(request, work)
        return build_response(result, find_language(program.language).compile is not None)

    async def report_health(self) -> Health:
        """Whether the service lives; needs no token."""
        return Health(
            version=version("seed-diffusion-bench"),
            sandbox_level=self.sandbox_level,
            num_pending=self.num_pending,
            max_pending=self.settings.max_pending,
        )

    def _make_judge(self, name: str) -> Judge:
        """A judge that measures every program anew and never waits for a place: `admit` counts."""
        settings = self.settings
        return Judge(
            sandbox=name,
            num_slots=settings.num_slots,
            max_waiting=settings.max_pending,
            num_remembered=0,
        )


def read_what_is_asked(
    check: dict[str, Any] | str, limits: dict[str, Any]
) -> tuple[Check, ResourceLimits]:
    """Check and limits of a native request. Raises ValueError that names the field."""
    read = check_from_json(check) if isinstance(check, str) else read_check(check)
    found = read_limits(limits, ResourceLimits())
    for field in fields(found):
        asked, most = getattr(found, field.name), getattr(MAX_LIMITS, field.name)
        if asked > most:
            raise ValueError(f"limits.{field.name}={asked}; at most {most} can be asked for")
    return read, found


def name_language(check: Check) -> str:
    """The language that a check's programs are written in."""
    return (
        check.language if isinstance(check, StdinCheck | ExitCodeCheck | SuiteCheck) else "python"
    )


async def run_while_connected(request: Request, work: Coroutine[Any, Any, T]) -> T:
    """Do the work, or cancel it as soon as nobody waits for it any more."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(wait_for_disconnection(request))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise HTTPException(499, "the client closed the connection")
        return working.result()
    finally:
        for task in (working, leaving):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def wait_for_disconnection(request: Request) -> None:
    """Return once the client is gone."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def answer_invalid(request: Request, error: Exception) -> JSONResponse:
    """A body of the wrong form: the first field that is wrong and why, in one line."""
    detail = str(error)
    if isinstance(error, RequestValidationError):
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"][1:]) or "body"
        detail = f"{where}: {first['msg']}"
    return JSONResponse({"detail": detail}, 422)


async def answer_unavailable(request: Request, error: Exception) -> JSONResponse:
    """A fault of ours: the same request may succeed later."""
    return JSONResponse({"detail": str(error)}, 503, {"Retry-After": str(RETRY_AFTER_S)})


def create_app(service: Service) -> FastAPI:
    """Build the application around an open service, which closes when the application stops."""
    settings = service.settings

    @contextlib.asynccontextmanager
    async def live(app: FastAPI) -> AsyncIterator[None]:
        yield
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="Seed Diffusion Bench sandbox",
        description="Runs model-written programs and says whether they are right.",
        version=version("seed-diffusion-bench"),
        lifespan=live,
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, answer_invalid)
    app.add_exception_handler(ValueError, answer_invalid)
    app.add_exception_handler(SandboxError, answer_unavailable)
    documented = Security(HTTPBearer(auto_error=False))  # for OpenAPI: the guard enforces it
    reasons = {401: "No token", 413: "Too large", 422: "Malformed", 429: "Full", 503: "Our fault"}
    errors: dict[int | str, dict[str, Any]] = {
        status: {"model": ErrorBody, "description": reason} for status, reason in reasons.items()
    }
    posts: dict[str, Callable[..., Any]] = {
        "/verify": service.verify,
        "/verify_batch": service.verify_batch,
        "/run_code": service.run_code,
    }
    for path, route in posts.items():
        app.post(path, dependencies=[documented], responses=errors)(route)
    app.get("/health")(service.report_health)
    app.get("/v1/ping", description="As SandboxFusion answers it.")(answer_ping)
    app.add_middleware(Guard, token=settings.token, max_body_bytes=settings.max_body_bytes)
    return app


async def answer_ping() -> str:
    """Answer as SandboxFusion does."""
    return "pong"


def bind(host: str, port: int, allow_remote: bool) -> socket.socket:
    """Take the port, on this machine only unless other machines are allowed explicitly.

    Raises:
        ValueError: Another address than loopback without `allow_remote`, or no address at all.
        OSError: The port is taken.
    """
    name = "127.0.0.1" if host == "localhost" else host
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        raise ValueError(f"host {host!r} is no address; use 127.0.0.1, ::1 or 0.0.0.0") from None
    if not address.is_loopback and not allow_remote:
        raise ValueError(
            f"host {host} can be reached from other machines, and the token travels unencrypted; "
            "use 127.0.0.1, or add --allow-remote"
        )
    family = socket.AF_INET6 if address.version == 6 else socket.AF_INET
    try:
        return socket.create_server((name, port), family=family)
    except OSError as error:
        raise OSError(f"cannot listen on {host} port {port}: {error.strerror}") from None


def make_server(service: Service) -> uvicorn.Server:
    """A server that finishes accepted requests after SIGINT or SIGTERM, then closes the service.

    Run it with `run(sockets=[bind(...)])`.
    """
    config = uvicorn.Config(
        create_app(service),
        log_level="warning",
        access_log=False,
        server_header=False,
        limit_concurrency=4 * service.settings.max_pending,
        timeout_graceful_shutdown=STOPPING_S,
    )
    return uvicorn.Server(config)
