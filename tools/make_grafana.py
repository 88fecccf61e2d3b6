#!/usr/bin/env python3
"""Writes configs/serve/grafana.json, the dashboard of a server's metrics. Rows of panels are given below; each panel is
(title, unit, [(legend, expression), ...]). Run it after a change: tools/make_grafana.py > configs/serve/grafana.json"""
import json

RATE = "[$__rate_interval]"
LABELS = '{model_name=~"$model"}'


def rate(name, by="model_name", labels=LABELS):
    return f"sum by ({by}) (rate(fathom:{name}{labels}{RATE}))"


def quantile(q, name):
    return f"histogram_quantile({q}, sum by (le) (rate(fathom:{name}_bucket{LABELS}{RATE})))"


def quantiles(name):
    return [(f"p{int(q * 100)}", quantile(q, name)) for q in (0.5, 0.9, 0.99)]


def share(part, whole):
    return f"{rate(part)} / {rate(whole)}"


ROWS = [
    ("Load", [
        ("Requests running and waiting", "short", [("running {{model_name}}", f"fathom:num_requests_running{LABELS}"),
                                                   ("waiting {{model_name}}", f"fathom:num_requests_waiting{LABELS}"),
                                                   ("for a model {{model_name}}", f"fathom:model_requests_parked{LABELS}")]),
        ("Tokens a second", "short", [("written {{model_name}}", rate("generation_tokens_total")),
                                      ("prompts {{model_name}}", rate("prompt_tokens_total"))]),
        ("Responses a second, by status", "reqps", [("{{status}}", rate("http_responses_total", "status", '{route!="/metrics"}'))]),
    ]),
    ("Times", [
        ("Time to the first token", "s", quantiles("time_to_first_token_seconds")),
        ("Between tokens", "s", quantiles("inter_token_latency_seconds")),
        ("Whole answer", "s", quantiles("e2e_request_latency_seconds")),
        ("In the queue", "s", quantiles("request_queue_time_seconds")),
    ]),
    ("Cache and speculation", [
        ("Cache in use", "percentunit", [("{{model_name}}", f"fathom:kv_cache_usage_perc{LABELS}")]),
        ("Prompt tokens found in the cache", "percentunit",
         [("{{model_name}}", share("prefix_cache_hits_total", "prefix_cache_queries_total"))]),
        ("Drafts kept", "percentunit",
         [("{{model_name}}", share("spec_decode_num_accepted_tokens_total", "spec_decode_num_draft_tokens_total"))]),
        ("Preemptions a second", "short", [("{{model_name}}", rate("num_preemptions_total"))]),
    ]),
    ("Engine", [
        ("Time in steps", "percentunit", [("{{model_name}}", rate("engine_step_seconds_total"))]),
        ("Rows a step", "short", [("{{model_name}}", share("engine_step_rows_total", "engine_steps_total"))]),
        ("Ends of answers a second", "reqps", [("{{finished_reason}}", rate("request_success_total", "finished_reason"))]),
        ("Resident memory", "bytes", [("process", "process_resident_memory_bytes")]),
    ]),
    ("Operations", [
        ("State of models", "short", [("{{model_name}} {{state}}", f"fathom:model_state{LABELS} == 1")]),
        ("Memory of models", "bytes", [("{{model_name}}", f"fathom:model_bytes{LABELS}")]),
        ("Loads, evictions, failures", "short", [("loads", "sum(increase(fathom:model_loads_total[1h]))"),
                                                 ("evictions", "increase(fathom:model_evictions_total[1h])"),
                                                 ("failures", "increase(fathom:model_load_failures_total[1h])")]),
        ("Refused by a key's limit, a second", "reqps", [("{{key}}", rate("key_requests_refused_total", "key", ""))]),
        ("Accounting works", "short", [("up", "fathom:usage_accounting_up"), ("waiting", "fathom:usage_rows_waiting")]),
    ]),
]


def panels():
    made, y = [], 0
    source = {"type": "prometheus", "uid": "${source}"}
    for row, contents in ROWS:
        made.append({"type": "row", "title": row, "id": len(made) + 1, "collapsed": False, "panels": [],
                     "gridPos": {"h": 1, "w": 24, "x": 0, "y": y}})
        y += 1
        width = 24 // min(len(contents), 4)
        for i, (title, unit, targets) in enumerate(contents):
            made.append({"type": "timeseries", "title": title, "id": len(made) + 1, "datasource": source,
                         "gridPos": {"h": 8, "w": width, "x": i % 4 * width, "y": y + i // 4 * 8},
                         "fieldConfig": {"defaults": {"unit": unit, "min": 0, "custom": {"fillOpacity": 8}}, "overrides": []},
                         "options": {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
                         "targets": [{"refId": chr(65 + n), "expr": expression, "legendFormat": legend, "datasource": source}
                                     for n, (legend, expression) in enumerate(targets)]})
        y += 8 * ((len(contents) + 3) // 4)
    return made


def main():
    variables = [
        {"name": "source", "label": "Prometheus", "type": "datasource", "query": "prometheus"},
        {"name": "model", "label": "Model", "type": "query", "datasource": {"type": "prometheus", "uid": "${source}"},
         "query": {"query": "label_values(fathom:model_state, model_name)", "refId": "models"}, "refresh": 2, "multi": True,
         "includeAll": True, "allValue": ".*", "current": {"text": "All", "value": "$__all"}},
    ]
    board = {"title": "fathom", "uid": "fathom", "schemaVersion": 39, "version": 1, "editable": True, "refresh": "10s",
             "time": {"from": "now-1h", "to": "now"}, "tags": ["fathom"], "templating": {"list": variables},
             "annotations": {"list": []}, "panels": panels()}
    print(json.dumps(board, indent=1))


main()
