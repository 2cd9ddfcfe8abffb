// What the resource group may cost a month, in the currency of the account. Azure only tells; the cap on replicas is in
// autoscaler.yaml (`budget`). Azure's figures are hours late.
param suffix string
param amount int

@description('First day of the month that it begins in; it cannot be changed afterwards.')
param startDate string
param actionGroupId string
param alertEmail string

var emails = empty(alertEmail) ? [] : [alertEmail]

resource budget 'Microsoft.Consumption/budgets@2024-08-01' = {
  name: 'budget-${suffix}'
  properties: {
    category: 'Cost'
    amount: amount
    timeGrain: 'Monthly'
    timePeriod: { startDate: startDate }
    notifications: {
      half: { enabled: true, operator: 'GreaterThanOrEqualTo', threshold: 50, thresholdType: 'Actual', contactEmails: emails, contactGroups: [actionGroupId] }
      most: { enabled: true, operator: 'GreaterThanOrEqualTo', threshold: 80, thresholdType: 'Actual', contactEmails: emails, contactGroups: [actionGroupId] }
      all: { enabled: true, operator: 'GreaterThanOrEqualTo', threshold: 100, thresholdType: 'Actual', contactEmails: emails, contactGroups: [actionGroupId] }
      expected: { enabled: true, operator: 'GreaterThanOrEqualTo', threshold: 100, thresholdType: 'Forecasted', contactEmails: emails, contactGroups: [actionGroupId] }
    }
  }
}
