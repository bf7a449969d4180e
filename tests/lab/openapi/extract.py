#!/usr/bin/env python3
"""Cuts GitHub's OpenAPI description down to the operations that the lab serves.

    npm pack @octokit/openapi && tar xzf octokit-openapi-*.tgz
    python3 extract.py package/generated/api.github.com.json > github.json

What is left of an operation: its query parameters, the schema of its request body, and the schema of its successful
answers. Prose and examples go, OpenAPI's `nullable` becomes JSON Schema, request bodies become closed: a property that
GitHub does not know is an error in the lab, where GitHub silently ignores it.
"""

import json
import sys

OPERATIONS = """
GET /user
GET /rate_limit
GET /app
POST /app/installations/{installation_id}/access_tokens
GET /repos/{owner}/{repo}
GET /repos/{owner}/{repo}/branches
GET /repos/{owner}/{repo}/branches/{branch}
GET /repos/{owner}/{repo}/git/ref/{ref}
GET /repos/{owner}/{repo}/git/matching-refs/{ref}
DELETE /repos/{owner}/{repo}/git/refs/{ref}
GET /repos/{owner}/{repo}/issues
POST /repos/{owner}/{repo}/issues
GET /repos/{owner}/{repo}/issues/{issue_number}
PATCH /repos/{owner}/{repo}/issues/{issue_number}
GET /repos/{owner}/{repo}/issues/{issue_number}/comments
POST /repos/{owner}/{repo}/issues/{issue_number}/comments
GET /repos/{owner}/{repo}/issues/{issue_number}/events
GET /repos/{owner}/{repo}/issues/comments
GET /repos/{owner}/{repo}/issues/comments/{comment_id}
PATCH /repos/{owner}/{repo}/issues/comments/{comment_id}
DELETE /repos/{owner}/{repo}/issues/comments/{comment_id}
GET /repos/{owner}/{repo}/issues/{issue_number}/labels
POST /repos/{owner}/{repo}/issues/{issue_number}/labels
PUT /repos/{owner}/{repo}/issues/{issue_number}/labels
DELETE /repos/{owner}/{repo}/issues/{issue_number}/labels/{name}
GET /repos/{owner}/{repo}/labels
POST /repos/{owner}/{repo}/labels
GET /repos/{owner}/{repo}/labels/{name}
GET /repos/{owner}/{repo}/collaborators/{username}/permission
GET /repos/{owner}/{repo}/pulls
POST /repos/{owner}/{repo}/pulls
GET /repos/{owner}/{repo}/pulls/{pull_number}
PATCH /repos/{owner}/{repo}/pulls/{pull_number}
POST /repos/{owner}/{repo}/statuses/{sha}
GET /repos/{owner}/{repo}/commits/{ref}/statuses
""".strip().splitlines()

PROSE = {"description", "summary", "example", "examples", "externalDocs", "title", "deprecated"}
# Where GitHub's description asks for more of an answer than its own servers, and the lab, send.
OPEN_ENDED = {"integration", "nullable-integration", "team-simple", "nullable-team-simple", "enterprise"}


def schema(node, inside_properties=False):
    """OpenAPI 3.0's dialect to JSON Schema, without prose."""
    if isinstance(node, list):
        return [schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    if inside_properties:
        return {name: schema(value) for name, value in node.items()}
    result = {}
    for key, value in node.items():
        if key in PROSE or key == "nullable" or key.startswith("x-"):
            continue
        if key == "properties":
            result[key] = schema(value, inside_properties=True)
        elif key in ("enum", "required", "default"):
            result[key] = value
        elif key == "$ref":
            result[key] = value.replace("#/components/schemas/", "#/$defs/")
        else:
            result[key] = schema(value)
    result.pop("default", None)
    if node.get("nullable"):
        if isinstance(result.get("type"), str):
            result["type"] = [result["type"], "null"]
            if "enum" in result and None not in result["enum"]:
                result["enum"] = result["enum"] + [None]
        else:
            result = {"anyOf": [result, {"type": "null"}]}
    return result


def closed(node):
    """A request body in which every property is known."""
    if not isinstance(node, dict):
        return node
    node = {
        key: [closed(item) for item in value] if key in ("oneOf", "anyOf", "allOf") else value
        for key, value in node.items()
    }
    if node.get("type") == "object" and "properties" in node:
        node.setdefault("additionalProperties", False)
    return node


def references(node, found):
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "$ref" and isinstance(value, str):
                found.add(value.removeprefix("#/$defs/"))
            else:
                references(value, found)
    elif isinstance(node, list):
        for item in node:
            references(item, found)


def main():
    document = json.load(open(sys.argv[1], encoding="utf-8"))
    components = document["components"]

    def resolve(node):
        while isinstance(node, dict) and "$ref" in node:
            _, _, group, name = node["$ref"].split("/", 3)
            node = components[group][name]
        return node

    def json_schema(content):
        return schema(content["content"]["application/json"]["schema"]) if "application/json" in content.get("content", {}) else None

    operations = []
    for line in OPERATIONS:
        method, path = line.split()
        entry = document["paths"][path]
        operation = entry[method.lower()]
        query = {}
        for parameter in map(resolve, entry.get("parameters", []) + operation.get("parameters", [])):
            if parameter["in"] == "query":
                query[parameter["name"]] = schema(parameter["schema"])
        body = resolve(operation.get("requestBody") or {})
        answers = {}
        for status, answer in operation["responses"].items():
            answer = resolve(answer)
            if status.startswith("2") and json_schema(answer) is not None:
                answers[status] = json_schema(answer)
        cut = {"method": method, "path": path, "id": operation["operationId"], "query": query}
        if body:
            cut["body"] = closed(json_schema(body))
            cut["body_required"] = body.get("required", False)
        cut["answers"] = answers
        operations.append(cut)

    definitions = {}
    waiting = set()
    references(operations, waiting)
    while waiting:
        name = waiting.pop()
        if name in definitions:
            continue
        definitions[name] = {} if name in OPEN_ENDED else schema(components["schemas"][name])
        references(definitions[name], waiting)

    extract = {
        "source": "@octokit/openapi %s (%s)" % (document["info"]["version"], document["info"]["license"]["name"]),
        "licence": "MIT License, Copyright (c) 2020 Octokit contributors; see LICENSE beside this file",
        "operations": operations,
        "$defs": dict(sorted(definitions.items())),
    }
    json.dump(extract, sys.stdout, separators=(",", ":"), ensure_ascii=False)
    print()


main()
