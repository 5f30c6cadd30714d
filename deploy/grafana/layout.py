"""Where panels go, and what Grafana wants to be told of each kind."""

WIDTH = 24
HEIGHT = 8
DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
GREEN, YELLOW, RED = "green", "yellow", "red"


class Dashboard:
    """Panels from left to right, row by row."""

    def __init__(self):
        self.panels, self.x, self.y = [], 0, 0

    def row(self, title):
        self._end_line()
        self._add({"type": "row", "title": title, "collapsed": False, "panels": []}, WIDTH, 1)

    def stat(self, title, text, query, unit="none", steps=((GREEN, None), (RED, 1)), width=4):
        thresholds = [{"color": color, "value": value} for color, value in steps]
        self._panel(
            "stat",
            title,
            text,
            [(query, "")],
            width,
            4,
            {
                "defaults": {
                    "unit": unit,
                    "thresholds": {"mode": "absolute", "steps": thresholds},
                    "noValue": "0",
                    "decimals": 0,
                },
                "overrides": [],
            },
            {
                "colorMode": "background",
                "graphMode": "none",
                "justifyMode": "auto",
                "textMode": "value",
                "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            },
            instant=True,
        )

    def lines(self, title, text, queries, unit="none", width=8, stacked=False):
        self._panel(
            "timeseries",
            title,
            text,
            queries,
            width,
            HEIGHT,
            {
                "defaults": {
                    "unit": unit,
                    "min": 0,
                    "custom": {
                        "drawStyle": "line",
                        "lineWidth": 1,
                        "fillOpacity": 15 if stacked else 0,
                        "showPoints": "never",
                        "spanNulls": False,
                        "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
                    },
                },
                "overrides": [],
            },
            {
                "legend": {"displayMode": "table", "placement": "bottom", "calcs": ["lastNotNull", "max"]},
                "tooltip": {"mode": "multi", "sort": "desc"},
            },
        )

    def table(self, title, text, query, unit="none", width=12, hidden=()):
        exclude = {name: True for name in ("Time", "__name__", "job", *hidden)}
        self._panel(
            "table",
            title,
            text,
            [(query, "")],
            width,
            HEIGHT,
            {
                "defaults": {"unit": unit, "custom": {"align": "auto", "filterable": True}},
                "overrides": [],
            },
            {"showHeader": True, "sortBy": [{"displayName": "Value", "desc": True}]},
            instant=True,
            more={
                "transformations": [{"id": "organize", "options": {"excludeByName": exclude, "renameByName": {}}}],
            },
        )

    def _panel(self, kind, title, text, queries, width, height, field_config, options, instant=False, more=None):
        targets = [
            {
                "refId": chr(ord("A") + number),
                "datasource": DATASOURCE,
                "editorMode": "code",
                "expr": query,
                "legendFormat": legend or "__auto",
                "instant": instant,
                "range": not instant,
                **({"format": "table"} if kind == "table" else {}),
            }
            for number, (query, legend) in enumerate(queries)
        ]
        panel = {
            "type": kind,
            "title": title,
            "description": text,
            "datasource": DATASOURCE,
            "targets": targets,
            "fieldConfig": field_config,
            "options": options,
        }
        self._add({**panel, **(more or {})}, width, height)

    def _add(self, panel, width, height):
        if self.x + width > WIDTH:
            self._end_line()
        place = {"x": self.x, "y": self.y, "w": width, "h": height}
        self.panels.append({"id": len(self.panels) + 1, **panel, "gridPos": place})
        self.x += width
        self.height = height

    def _end_line(self):
        if self.x > 0:
            self.x, self.y = 0, self.y + self.height
