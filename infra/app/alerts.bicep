// Who is told, and of what. docs/runbook.md says for each what to look at and what to do. The autoscaler writes a line
// `tick {json}` for each service and tick; the queries read that.
param location string
param tags object
param suffix string
param workspaceId string
param alertEmail string

@description('Ticks that have to come in ten minutes; half of what the schedule gives.')
param ticksExpected int

var ticks = 'AppTraces | where Message startswith "tick {" | extend tick = parse_json(substring(Message, 5)) '

var alerts = [
  {
    name: 'missed-ticks'
    description: 'The autoscaler does not tick: nothing is scaled. Runbook: missed-ticks.'
    severity: 1
    query: 'AppRequests | where Name == "tick" and Success == true | summarize ticks = count()'
    measure: 'ticks'
    operator: 'LessThan'
    threshold: ticksExpected
  }
  {
    name: 'no-ready-replica'
    description: 'A service should have replicas, and none was ready for ten minutes. Runbook: no-ready-replica.'
    severity: 1
    query: '${ticks}| summarize desired = min(toint(tick.desired)), ready = max(toint(tick.ready)) by service = tostring(tick.service) | summarize services = countif(desired > 0 and ready == 0)'
    measure: 'services'
    operator: 'GreaterThan'
    threshold: 0
  }
  {
    name: 'failing-starts'
    description: 'Replicas are asked for and do not start. Runbook: failing-starts.'
    severity: 2
    query: '${ticks}| summarize ticks = countif(tostring(tick.conditions) has_any ("image_pull", "registry_credentials", "registry_failure", "wrong_port", "out_of_memory", "crash_loop", "slow_start", "start_failed", "refused", "quota", "permission", "nowhere"))'
    measure: 'ticks'
    operator: 'GreaterThan'
    threshold: 3
  }
  {
    name: 'at-max'
    description: 'A service wants more replicas than it may have, all the time: requests wait, or the bill grows. Runbook: at-max.'
    severity: 3
    query: '${ticks}| summarize held = countif(tostring(tick.limited_by) in ("max", "quota", "budget")), all = count() by service = tostring(tick.service) | summarize services = countif(held == all)'
    measure: 'services'
    operator: 'GreaterThan'
    threshold: 0
  }
]

resource people 'Microsoft.Insights/actionGroups@2023-01-01' = {
  name: 'ag-${suffix}'
  location: 'global'
  tags: tags
  properties: {
    groupShortName: 'autoscaler'
    enabled: true
    emailReceivers: empty(alertEmail) ? [] : [{ name: 'operator', emailAddress: alertEmail, useCommonAlertSchema: true }]
  }
}

resource rules 'Microsoft.Insights/scheduledQueryRules@2022-06-15' = [for alert in alerts: {
  name: '${alert.name}-${suffix}'
  location: location
  tags: tags
  properties: {
    displayName: alert.name
    description: alert.description
    severity: alert.severity
    enabled: true
    scopes: [workspaceId]
    evaluationFrequency: 'PT5M'
    windowSize: 'PT10M'
    autoMitigate: true
    // Deployed before the app has written its first line: the tables are not there yet.
    skipQueryValidation: true
    criteria: {
      allOf: [
        {
          query: alert.query
          metricMeasureColumn: alert.measure
          timeAggregation: 'Total'
          operator: alert.operator
          threshold: alert.threshold
          failingPeriods: { numberOfEvaluationPeriods: 1, minFailingPeriodsToAlert: 1 }
        }
      ]
    }
    actions: { actionGroups: [people.id] }
  }
}]

output actionGroupId string = people.id
